"""The way to PostgreSQL: connections, transactions, statements, migrations, notifications.

Never: knows a job or a task.
"""
