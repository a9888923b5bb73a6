"""Loggers that are quiet for a while only."""

import logging

import pytest

from networks.quiet_logs import errors_only


def log_and_fail(logger):
    with errors_only(logger.name):
        logger.warning("hidden")
        logger.error("shown")
        raise KeyError(logger.name)


def test_warnings_are_hidden_inside_and_not_afterwards(caplog):
    logger = logging.getLogger("some.logger")
    with pytest.raises(KeyError):
        log_and_fail(logger)
    logger.warning("shown, too")
    assert caplog.messages == ["shown", "shown, too"]
