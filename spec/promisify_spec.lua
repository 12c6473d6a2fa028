-- allua.promisify: functions with a callback, luv's above all, made to wait.

local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")
local uv = require("luv")

require("spec.support.leftovers")()

local all = allua.all
local promisify = allua.promisify

local close = promisify(uv.close)

--- Something that closes a luv handle when it goes out of scope.
local function closing(handle)
  return setmetatable({}, {
    __close = function()
      if not handle:is_closing() then
        allua.shield(close, handle)
      end
    end,
  })
end

--- Everything that comes through a stream, until its end.
local function read_all(stream)
  local ended = allua.promise()
  local chunks = {}
  stream:read_start(function(err, chunk)
    if err then
      ended:reject(err)
    elseif chunk then
      chunks[#chunks + 1] = chunk
    else
      ended:resolve(table.concat(chunks))
    end
  end)
  return ended
end

describe("allua.promisify", function()
  it("gives fn the arguments and a callback behind them, and returns the callback's values", function()
    local seen
    local wait = promisify(function(...)
      seen = table.pack(...)
      seen[seen.n](nil, "one", nil, "three", nil)
    end)
    local values = table.pack(wait("a", nil, "c"))
    assert.same({ n = 4, "one", nil, "three", nil }, values)
    assert.equal(4, seen.n)
    assert.same({ "a", nil, "c" }, { seen[1], seen[2], seen[3] })
    assert.is_function(seen[4])
  end)

  it("keeps nils among the arguments, the last one too", function()
    local count
    promisify(function(...)
      count = select("#", ...);
      (select(count, ...))()
    end)(nil, nil, nil)
    assert.equal(4, count)
  end)

  it("waits until the callback is called", function()
    local log = {}
    local result = all({
      waiter = function()
        return promisify(function(callback)
          allua.spawn(function()
            allua.sleep(0.01)
            log[#log + 1] = "calling back"
            callback(nil, "value")
          end)
        end)()
      end,
      other = function()
        allua.yield()
        log[#log + 1] = "other"
      end,
    })
    assert.equal("value", result.waiter)
    assert.same({ "other", "calling back" }, log)
  end)

  it("returns at once where fn calls back at once", function()
    assert.equal(
      "at once",
      promisify(function(callback)
        callback(nil, "at once")
      end)()
    )
  end)

  it("raises the very error that the callback is given", function()
    for _, boom in ipairs({ "ENOENT: no such file", {}, 3, true }) do
      local wait = promisify(function(callback)
        callback(boom)
      end)
      assert.equal(boom, errors.raised(wait))
    end
  end)

  it("takes false for no error, as Lua does", function()
    assert.equal(
      "value",
      promisify(function(callback)
        callback(false, "value")
      end)()
    )
  end)

  it("raises the very error that fn raises", function()
    local boom = {}
    assert.equal(
      boom,
      errors.raised(promisify(function()
        error(boom)
      end))
    )
  end)

  it("raises the error where fn gives it back instead of calling back", function()
    local err = errors.raised(promisify(function()
      return nil, "EBADF: bad file descriptor", "EBADF"
    end))
    assert.is_true(errors.says(err, "EBADF"), tostring(err))
  end)

  it("lets the first call of the callback count", function()
    local callback
    local wait = promisify(function(given)
      callback = given
      given(nil, "first")
      given(nil, "second")
      given("an error")
    end)
    assert.equal("first", wait())
    callback(nil, "much later")
  end)

  it("makes a function that may be called many times, at the same time", function()
    local callbacks = {}
    local wait = promisify(function(name, callback)
      callbacks[#callbacks + 1] = { name, callback }
    end)
    local result = all({
      a = function()
        return wait("a")
      end,
      b = function()
        return wait("b")
      end,
      c = function()
        allua.sleep(0.005)
        for i = #callbacks, 1, -1 do
          local name, callback = table.unpack(callbacks[i])
          callback(nil, "for " .. name)
        end
      end,
    })
    assert.equal("for a", result.a)
    assert.equal("for b", result.b)
  end)

  it("lets go of the wait when the task is cancelled; the callback may still come", function()
    local callback
    local task = allua.spawn(promisify(function(given)
      callback = given
    end))
    allua.yield()
    task:cancel("stop")
    local err = errors.raised(task.await, task)
    assert.is_true(allua.is_error(err, "CancelledError"))
    callback(nil, "too late")
    callback("too late")
    allua.yield()
  end)

  it("wants a function", function()
    assert.is_true(errors.says(errors.raised(promisify), "promisify"))
    assert.is_true(errors.says(errors.raised(promisify, 3), "promisify"))
  end)
end)

describe("with luv's files", function()
  local mkdtemp, rmdir = promisify(uv.fs_mkdtemp), promisify(uv.fs_rmdir)
  local open, fs_close = promisify(uv.fs_open), promisify(uv.fs_close)
  local read, write = promisify(uv.fs_read), promisify(uv.fs_write)
  local stat, fstat, unlink = promisify(uv.fs_stat), promisify(uv.fs_fstat), promisify(uv.fs_unlink)
  local rename, scandir = promisify(uv.fs_rename), promisify(uv.fs_scandir)

  local folder

  before_each(function()
    folder = mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/allua-spec-XXXXXX")
  end)

  after_each(function()
    rmdir(folder)
  end)

  it("a file is written, read, looked at, renamed, listed and deleted", function()
    local path, renamed = folder .. "/file", folder .. "/renamed"
    local text = ("a line of text\n"):rep(10000)

    local fd = open(path, "w", tonumber("644", 8))
    assert.equal(#text, write(fd, text, -1))
    assert.equal(#text, fstat(fd).size)
    fs_close(fd)

    rename(path, renamed)
    assert.equal("file", stat(renamed).type)

    fd = open(renamed, "r", 0)
    assert.equal(text, read(fd, #text + 100, 0))
    assert.equal("", read(fd, 100, #text))
    fs_close(fd)

    local names = {}
    local entries = scandir(folder)
    for name in uv.fs_scandir_next, entries do
      names[#names + 1] = name
    end
    assert.same({ "renamed" }, names)
    unlink(renamed)
  end)

  it("an error of the system's is raised, with its name", function()
    local err = errors.raised(open, folder .. "/nowhere/file", "r", 0)
    assert.matches("ENOENT", tostring(err), 1, true)
    assert.matches("EISDIR", tostring(errors.raised(open, folder, "w", 0)), 1, true)
    assert.matches("EBADF", tostring(errors.raised(read, -1, 10, 0)), 1, true)
  end)

  it("an argument that luv refuses is an error of the call's", function()
    assert.is_string(errors.raised(stat, {}))
  end)

  it("many requests are under way at once, and other tasks run meanwhile", function()
    local ticks = 0
    local tasks = {}
    for i = 1, 100 do
      tasks[i] = function()
        return stat(folder).type
      end
    end
    tasks.ticking = function()
      for _ = 1, 10 do
        ticks = ticks + 1
        allua.yield()
      end
    end
    local result = all(tasks)
    for i = 1, 100 do
      assert.equal("directory", result[i])
    end
    assert.equal(10, ticks)
  end)

  it("a request that has not begun is cancelled with its task", function()
    local fifo = folder .. "/fifo"
    assert.is_true(os.execute("mkfifo '" .. fifo .. "'"))

    -- Opening a fifo takes up a thread of libuv's until somebody writes: all of them are busy now.
    local threads = tonumber(os.getenv("UV_THREADPOOL_SIZE")) or 4
    local opened = {}
    for i = 1, threads do
      opened[i] = allua.promise()
      uv.fs_open(fifo, "r", 0, function(err, fd)
        opened[i]:resolve(err, fd)
      end)
    end

    local outcome
    local watched = promisify(function(path, callback)
      return uv.fs_stat(path, function(err, ...)
        outcome = err or "done"
        callback(err, ...)
      end)
    end)
    local task = allua.spawn(watched, folder)
    allua.yield()
    task:cancel()
    pcall(task.await, task)
    for _ = 1, 100 do
      if outcome then
        break
      end
      allua.sleep(0.001)
    end

    local writer = uv.fs_open(fifo, "r+", 0)
    for i = 1, threads do
      local err, fd = opened[i]:await()
      assert.is_nil(err)
      fs_close(fd)
    end
    fs_close(writer)
    unlink(fifo)
    assert.matches("ECANCELED", tostring(outcome), 1, true)
  end)
end)

describe("with luv's other requests", function()
  it("a name is looked up", function()
    local addresses = promisify(uv.getaddrinfo)("localhost", nil, { family = "inet", socktype = "stream" })
    assert.equal("127.0.0.1", addresses[1].addr)
  end)

  it("an address is looked up", function()
    local name, service = promisify(uv.getnameinfo)({ ip = "127.0.0.1", port = 80, family = "inet" })
    assert.is_string(name)
    assert.is_string(service)
  end)

  it("a name that nobody has is an error", function()
    local err = errors.raised(promisify(uv.getaddrinfo), "name.invalid.", nil, { family = "inet" })
    assert.matches("^%S+:%d+: uv.getaddrinfo: E", tostring(err))
  end)

  it("random bytes are drawn", function()
    local random = promisify(uv.random)
    local first, second = random(16, nil), random(16, nil)
    assert.equal(16, #first)
    assert.not_equal(first, second)
  end)
end)

describe("with luv's sockets", function()
  local connect, write, shutdown = promisify(uv.tcp_connect), promisify(uv.write), promisify(uv.shutdown)

  --- A server that answers each connection with what it is sent, in capitals.
  local function shouting(server)
    assert(server:listen(128, function(err)
      assert(not err, err)
      local client = server:get_type() == "tcp" and uv.new_tcp() or uv.new_pipe(false)
      server:accept(client)
      local text = ""
      client:read_start(function(_, chunk)
        if chunk then
          text = text .. chunk
        else
          client:write(text:upper(), function()
            client:close()
          end)
        end
      end)
    end))
  end

  it("a client speaks to a server over TCP", function()
    local server = uv.new_tcp()
    local _ <close> = closing(server)
    assert(server:bind("127.0.0.1", 0))
    shouting(server)
    local port = server:getsockname().port

    local tasks = {}
    for i = 1, 10 do
      tasks[i] = function()
        local client = uv.new_tcp()
        local _ <close> = closing(client)
        connect(client, "127.0.0.1", port)
        local answer = read_all(client)
        write(client, "message ")
        write(client, { "number ", tostring(i) })
        shutdown(client)
        return answer:await()
      end
    end
    local answers = all(tasks)
    for i = 1, 10 do
      assert.equal("MESSAGE NUMBER " .. i, answers[i])
    end
  end)

  it("a refused connection is an error", function()
    local server = uv.new_tcp()
    assert(server:bind("127.0.0.1", 0))
    local port = server:getsockname().port
    close(server)
    local client = uv.new_tcp()
    local _ <close> = closing(client)
    assert.matches("ECONNREFUSED", tostring(errors.raised(connect, client, "127.0.0.1", port)), 1, true)
  end)

  it("errors name the operation and the line that asked for it", function()
    local line = debug.getinfo(1, "l").currentline
    local ok, err = pcall(function()
      promisify(uv.fs_stat)("/no/such/file")
    end)
    assert.is_false(ok)
    local place = "promisify_spec.lua:" .. line + 2
    assert.matches(place .. ": uv.fs_stat: ENOENT: no such file or directory: /no/such/file", err, 1, true)
    ok, err = pcall(function()
      promisify(uv.fs_stat)({})
    end)
    assert.is_false(ok)
    place = "promisify_spec.lua:" .. line + 8
    assert.matches(place .. ": bad argument #1 to 'uv.fs_stat' (string expected, got table)", err, 1, true)
  end)

  it("a call that luv refuses at once is an error, not a wait without end", function()
    local client = uv.new_tcp()
    local _ <close> = closing(client)
    local err = errors.raised(allua.timeout, 60, shutdown, client)
    assert.matches("ENOTCONN", tostring(err), 1, true)
  end)

  it("a client speaks to a server over a local socket", function()
    local path = os.tmpname()
    os.remove(path)
    local server = uv.new_pipe(false)
    local _ <close> = closing(server)
    assert(server:bind(path))
    shouting(server)
    local client = uv.new_pipe(false)
    local _ <close> = closing(client)
    promisify(uv.pipe_connect)(client, path)
    local answer = read_all(client)
    write(client, "hello")
    shutdown(client)
    assert.equal("HELLO", answer:await())
  end)

  it("handles are closed, and are gone when the call returns", function()
    local timer = uv.new_timer()
    assert.is_false(timer:is_closing())
    assert.equal(0, select("#", close(timer)))
    assert.is_true(timer:is_closing())
  end)
end)

describe("with luv's processes", function()
  --- Runs a program to its end: what it wrote, what it complained of, its exit status and its signal.
  local function run(program, args, input)
    local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
    local _ <close> = closing(stdin)
    local _ <close> = closing(stdout)
    local _ <close> = closing(stderr)
    local exited = allua.promise()
    local process = assert(uv.spawn(program, { args = args, stdio = { stdin, stdout, stderr } }, function(...)
      exited:resolve(...)
    end))
    local _ <close> = closing(process)
    local result = all({
      out = function()
        return read_all(stdout):await()
      end,
      err = function()
        return read_all(stderr):await()
      end,
      input = function()
        if input then
          promisify(uv.write)(stdin, input)
        end
        promisify(uv.shutdown)(stdin)
      end,
    })
    return result.out, result.err, exited:await()
  end

  it("a program's output and exit status are had", function()
    local out, err, code, signal = run("sh", { "-c", "echo out; echo err >&2; exit 3" })
    assert.equal("out\n", out)
    assert.equal("err\n", err)
    assert.equal(3, code)
    assert.equal(0, signal)
  end)

  it("a program is fed more than a pipe holds", function()
    local text = ("0123456789"):rep(50000)
    local out = run("cat", {}, text)
    assert.equal(#text, #out)
    assert.is_true(text == out)
  end)

  it("several programs run at the same time", function()
    local start = allua.now()
    local tasks = {}
    for i = 1, 5 do
      tasks[i] = function()
        return (run("sh", { "-c", "sleep 1; echo " .. i }))
      end
    end
    local result = all(tasks)
    for i = 1, 5 do
      assert.equal(i .. "\n", result[i])
    end
    if size.full then
      assert.is_true(allua.now() - start < 4)
    end
  end)
end)
