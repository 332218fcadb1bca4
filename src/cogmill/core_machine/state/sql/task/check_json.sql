-- What `payload` keeps as text is read as jsonb, which knows no NUL and no NaN: refuse it early.
SELECT %(body)s::jsonb IS NOT NULL AS valid
