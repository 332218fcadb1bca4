INSERT INTO cogmill.job (
    id, lineage, generation, type, version, inputs, source_identity, engine, reach, owns,
    prepared, priority
)
VALUES (
    %(id)s, %(lineage)s, %(generation)s, %(type)s, %(version)s, %(inputs)s, %(source_identity)s,
    %(engine)s, %(reach)s, %(owns)s, %(prepared)s, %(priority)s
)
