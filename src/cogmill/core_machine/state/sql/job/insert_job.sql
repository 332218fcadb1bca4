INSERT INTO cogmill.job (
    id, lineage, generation, type, version, inputs, source_identity, engine, reach, owns,
    prepared, priority, plan_identity, adopt_before
)
VALUES (
    %(id)s, %(lineage)s, %(generation)s, %(type)s, %(version)s, %(inputs)s, %(source_identity)s,
    %(engine)s, %(reach)s, %(owns)s, %(prepared)s, %(priority)s, %(plan_identity)s,
    %(adopt_before)s
)
