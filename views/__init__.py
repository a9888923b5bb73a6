"""What people look at: console, live page, report, films."""
