"""Who is measured, in the order of their turns."""

from benchmarks.peers import bentoml, echo, fastapi, frontrow, litserve, mlflow, mlserver, mosec, ray

FRONTROW, ECHO = frontrow.PEER, echo.PEER
PEERS = (fastapi.PEER, bentoml.PEER, litserve.PEER, mosec.PEER, mlserver.PEER, mlflow.PEER, ray.PEER)
