"""A gateway between AI agents and MCP servers that holds risky calls until a person says yes.

The rooms, and what each may know (a room imports only from those below it):

    __main__, cli    commands; the only place that prints
    demo             a phone-number shop and a scripted agent, for the first two minutes
    app              the composition root: configuration in, running service out; owns the clock
    config           config.toml and what it names, read strictly into one frozen value
    web              people: console pages, API, sign-in
    gateway          agents in, upstream MCP servers out
    store            what is kept: the only room that knows SQL
    worker           duties on a tick: expire, release, listen to other processes
    service          the story in order: submit, decide, claim, send, settle
    ports            what the service needs of the world, as contracts
    core             values and pure functions: calls, policy, the life of a call, the trail
    errors           one tree

A call enters through `gateway`, is judged by `core.policy`, begins as a step of `core.steps` inside
a transaction of `store`, is decided through `web` or `cli`, and leaves through `gateway` again.
`docs/architecture.md` tells the same at more length.
"""
