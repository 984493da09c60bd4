package servercli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/stores"
)

const (
	defaultListen      = "tcp://127.0.0.1:7077"
	defaultStore       = "log:partd-data"
	defaultMaxMessage  = 256 << 20
	defaultConnections = 1024
	defaultHandles     = 1024
	defaultHandshake   = 10 * time.Second
	defaultStall       = 30 * time.Second
	defaultMemory      = 1 << 30
	minMemory          = 16 << 20
	minMessage         = 128 << 10
	defaultDrain       = 10 * time.Second
)

// config is what the command's flags say.
type config struct {
	listen      []string
	store       string
	maxMessage  sizeflag.Size
	connections int
	memory      sizeflag.Size
	drain       time.Duration
	handshake   time.Duration
	idle        time.Duration
	stall       time.Duration
	handles     int
	allowClose  bool
	insecure    bool
	logFormat   string
}

func (c *config) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	c.maxMessage = sizeflag.Size{Bytes: defaultMaxMessage, Min: minMessage}
	c.memory = sizeflag.Size{Bytes: defaultMemory, Min: minMemory}
	fl.StringArrayVar(&c.listen, "listen", []string{defaultListen}, "`URL` to listen on, tcp://HOST:PORT or ipc:///PATH; may be given several times")
	fl.StringVar(&c.store, "store", defaultStore, "`URL` of the store")
	fl.Var(&c.maxMessage, "max-message", "`SIZE` of the largest message taken; Go clients send what is larger in parts")
	fl.IntVar(&c.connections, "max-connections", defaultConnections, "`NUMBER` of connections at a time; one more is closed")
	fl.Var(&c.memory, "memory", "`SIZE` of the memory to use: half for messages, half for the store (a store mem: takes what it holds)")
	fl.IntVar(&c.handles, "max-handles", defaultHandles, "`NUMBER` of readers and listings open at a time, of all clients")
	fl.DurationVar(&c.handshake, "handshake-timeout", defaultHandshake, "`TIME` that a peer has to open its connection")
	fl.DurationVar(&c.idle, "idle-timeout", 0, "`TIME` that a connection may be without a message; 0 for ever")
	fl.DurationVar(&c.stall, "stall-timeout", defaultStall, "`TIME` that 512 KiB of a message may take to arrive, or to be taken, and that one may wait for memory")
	fl.DurationVar(&c.drain, "drain-timeout", defaultDrain, "`TIME` that requests under way have to be finished, and peers to take their answers, once the server is told to end")
	fl.BoolVar(&c.allowClose, "allow-close", false, "let every client end the server (Python's close_server)")
	fl.BoolVar(&c.insecure, "insecure", false, "listen beyond this machine, where everybody may read, change and remove everything")
	fl.StringVar(&c.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	for flag, values := range map[string][]string{
		"listen": {defaultListen, "ipc:///"}, "store": {"log:", "file:", "buffer+file:", "mem:"},
		"log-format": {"text", "json"}, "memory": nil, "max-message": nil, "max-connections": nil, "max-handles": nil,
		"drain-timeout": nil, "handshake-timeout": nil, "idle-timeout": nil, "stall-timeout": nil,
	} {
		directive := cobra.ShellCompDirectiveNoFileComp
		if flag == "store" || flag == "listen" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, directive)); err != nil {
			panic(err) // there is no such flag: the program is wrong
		}
	}
}

// check checks what the flags are together.
func (c *config) check(cmd *cobra.Command) error {
	switch {
	case c.connections < 1:
		return cliutil.Usagef("--max-connections %d: at least 1", c.connections)
	case c.handles < 1:
		return cliutil.Usagef("--max-handles %d: at least 1", c.handles)
	case c.handshake <= 0:
		return cliutil.Usagef("--handshake-timeout %v: more than 0, as in 10s", c.handshake)
	case c.idle < 0:
		return cliutil.Usagef("--idle-timeout %v: 0 or more, as in 1h", c.idle)
	case c.stall <= 0:
		return cliutil.Usagef("--stall-timeout %v: more than 0, as in 30s", c.stall)
	case c.drain <= 0:
		return cliutil.Usagef("--drain-timeout %v: more than 0, as in 10s", c.drain)
	case c.logFormat != "text" && c.logFormat != "json":
		return cliutil.Usagef("--log-format %q: there are text and json", c.logFormat)
	}
	// Half of the memory is for messages, of which two at least must fit.
	if limit := c.memory.Bytes / 4; c.maxMessage.Bytes > limit {
		if cmd.Flags().Changed("max-message") {
			return cliutil.Usagef("--max-message %s wants --memory %s at least, four times as much",
				stores.FormatSize(c.maxMessage.Bytes), stores.FormatSize(4*c.maxMessage.Bytes))
		}
		c.maxMessage.Bytes = limit
	}
	return nil
}
