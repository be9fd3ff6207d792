"""Forms that change the store, with `ixt serve --write`.

A form contains a signature that only pages of this server know, in addition to the check of the
Origin.
"""

import hmac

from ixt_data.errors import ConfigError
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.reviewers import Reviewers


def check_form(request: PageRequest, *signed: str) -> Reviewers:
    """Return the people who may write, if the form has the signature of one of some texts.

    Raises:
        ConfigError: the server does not write, or the form is not of this page.
    """
    reviewers = request.inspector.reviewers
    if reviewers is None:
        raise ConfigError("this server only reads: start it with ixt serve --write")
    given = request.form.get("csrf", "").encode()
    if not any(hmac.compare_digest(given, reviewers.sign(text).encode()) for text in signed):
        raise ConfigError("the form is not of this page: check it, and send it again")
    return reviewers
