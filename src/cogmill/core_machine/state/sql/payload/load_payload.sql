SELECT body FROM cogmill.payload WHERE digest = %(digest)s
