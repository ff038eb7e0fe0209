"""An arq worker with one place: its job looks again and again for the result of a job that gets none."""

import asyncio

import arq.connections
import arq.worker
from fakeredis import TcpFakeServer

SERVER = "script"
READY = True
STATE = "tasks-waiting"
CAUSE = "sleep"
NEEDS = "arq fakeredis"


async def log_nothing(*_):  # that server has no INFO
    pass


arq.connections.log_redis_info = arq.worker.log_redis_info = log_nothing


async def page(context, number):
    return number * 2


async def booklet(context, number):
    print("READY", flush=True)
    job = await context["redis"].enqueue_job("page", number)
    return await job.result(timeout=None)  # <-- sleep


async def main():
    with TcpFakeServer(("127.0.0.1", 0)) as server:
        asyncio.get_running_loop().run_in_executor(None, server.serve_forever)
        settings = arq.connections.RedisSettings(port=server.server_address[1])
        queue = await arq.connections.create_pool(settings)
        await queue.enqueue_job("booklet", 3)
        worker = arq.worker.Worker(
            [booklet, page], redis_settings=settings, max_jobs=1, job_timeout=86_400, handle_signals=False
        )
        await worker.async_run()


if __name__ == "__main__":
    asyncio.run(main())
