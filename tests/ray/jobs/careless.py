"""A train function that tells every secret it knows."""

import os


def tells(ctx, fails, login):
    """Secrets in its output, in a notice, in its error, and as what it returns."""
    role, launcher = os.environ["API_TOKEN"], os.environ.get("LAUNCHERS_PASSWORD", "not inherited")
    print(f"curl -H 'Authorization: {role}'", flush=True)
    print(dict(os.environ), flush=True)
    ctx.note(f"logged in with {role}")
    ctx.report(1, loss=0.5)
    print(f"logged in by {login['api_key']}", flush=True)
    if fails:
        raise RuntimeError(f"{role} was refused, and so was {launcher}, and so was {login}")
    return {"token": role, "password": launcher, "by": login["api_key"]}
