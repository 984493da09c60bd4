package servercli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/stores"
)

const (
	defaultListen      = "tcp://127.0.0.1:7077"
	defaultStore       = "log:partd-data"
	defaultMaxMessage  = 256 << 20
	defaultConnections = 1024
	defaultMemory      = 1 << 30
	minMemory          = 16 << 20
	minMessage         = 128 << 10
)

// config is what the command's flags say.
type config struct {
	listen      []string
	store       string
	maxMessage  size
	connections int
	memory      size
	allowClose  bool
	insecure    bool
	logFormat   string
}

func (c *config) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	c.maxMessage = size{defaultMaxMessage, minMessage}
	c.memory = size{defaultMemory, minMemory}
	fl.StringArrayVar(&c.listen, "listen", []string{defaultListen}, "`URL` to listen on, tcp://HOST:PORT or ipc:///PATH; may be given several times")
	fl.StringVar(&c.store, "store", defaultStore, "`URL` of the store")
	fl.Var(&c.maxMessage, "max-message", "`SIZE` of the largest message taken; Go clients send what is larger in parts")
	fl.IntVar(&c.connections, "max-connections", defaultConnections, "`NUMBER` of connections at a time; one more is closed")
	fl.Var(&c.memory, "memory", "`SIZE` of the memory to use: half for messages, half for the store (a store mem: takes what it holds)")
	fl.BoolVar(&c.allowClose, "allow-close", false, "let every client end the server (Python's close_server)")
	fl.BoolVar(&c.insecure, "insecure", false, "listen beyond this machine, where everybody may read, change and remove everything")
	fl.StringVar(&c.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	for flag, values := range map[string][]string{
		"listen": {defaultListen, "ipc:///"}, "store": {"log:", "file:", "buffer+file:", "mem:"},
		"log-format": {"text", "json"}, "memory": nil, "max-message": nil, "max-connections": nil,
	} {
		directive := cobra.ShellCompDirectiveNoFileComp
		if flag == "store" || flag == "listen" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, directive)); err != nil {
			panic(err) // there is no such flag: the program is wrong
		}
	}
	env.NameVariables(cmd)
}

// env are not the variables of the command partd, whose PARTD_STORE may be the
// URL of this server.
var env = &cliutil.Env{Prefix: "PARTD_SERVER_", Lists: []string{"listen"}}

// complete takes what the environment says, and checks what the flags are
// together.
func (c *config) complete(cmd *cobra.Command) error {
	if err := env.Set(cmd); err != nil {
		return err
	}
	switch {
	case c.connections < 1:
		return usagef("--max-connections %d: at least 1", c.connections)
	case c.logFormat != "text" && c.logFormat != "json":
		return usagef("--log-format %q: there are text and json", c.logFormat)
	}
	// Half of the memory is for messages, of which two at least must fit.
	if most := c.memory.bytes / 4; c.maxMessage.bytes > most {
		if cmd.Flags().Changed("max-message") {
			return usagef("--max-message %s wants --memory %s at least, four times as much",
				stores.FormatSize(c.maxMessage.bytes), stores.FormatSize(4*c.maxMessage.bytes))
		}
		c.maxMessage.bytes = most
	}
	return nil
}

// size is a flag for a number of bytes.
type size struct{ bytes, least int64 }

func (s *size) String() string {
	return strings.ReplaceAll(stores.FormatSize(s.bytes), " ", "") // as it can be typed
}

// Type is what pflag calls the kind of value.
func (s *size) Type() string { return "size" }

// Set reads a size such as 256MiB.
func (s *size) Set(text string) error {
	n, err := stores.ParseSize(text)
	if err != nil {
		return err
	}
	if n < s.least {
		return fmt.Errorf("%s is too little: at least %s", text, stores.FormatSize(s.least))
	}
	s.bytes = n
	return nil
}

func usagef(format string, args ...any) error { return cliutil.Usagef(format, args...) }
