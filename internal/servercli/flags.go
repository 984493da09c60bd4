package servercli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	maxMessage  size
	connections int
	memory      size
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
	c.maxMessage = size{defaultMaxMessage, minMessage}
	c.memory = size{defaultMemory, minMemory}
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
	fl.VisitAll(func(fl *pflag.Flag) { fl.Usage += " [$" + variable(fl.Name) + "]" })
}

// variable returns the name of the environment variable of a flag. It is not
// that of the command partd, whose PARTD_STORE may be the URL of this server.
func variable(flag string) string {
	return "PARTD_SERVER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// setFromEnv sets the flags that the command line leaves out from their
// variables. An empty variable counts as not set. Several addresses to listen on
// are separated by blanks.
func setFromEnv(cmd *cobra.Command) error {
	given := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := os.Getenv(variable(f.Name))
		if err != nil || value == "" || f.Name == "help" || f.Name == "version" || given[f.Name] {
			return
		}
		values := []string{value}
		if f.Name == "listen" {
			values = strings.Fields(value)
		}
		for _, v := range values {
			if e := cmd.Flags().Set(f.Name, v); e != nil {
				if cause := errors.Unwrap(e); cause != nil {
					e = cause // without the name of the flag, which nobody wrote
				}
				err = usagef("the environment variable %s=%q: %w", variable(f.Name), value, valueError(f, v, e))
				return
			}
		}
	})
	return err
}

// complete takes what the environment says, and checks what the flags are
// together.
func (c *config) complete(cmd *cobra.Command) error {
	if err := setFromEnv(cmd); err != nil {
		return err
	}
	switch {
	case c.connections < 1:
		return usagef("--max-connections %d: at least 1", c.connections)
	case c.handles < 1:
		return usagef("--max-handles %d: at least 1", c.handles)
	case c.handshake <= 0:
		return usagef("--handshake-timeout %v: more than 0, as in 10s", c.handshake)
	case c.idle < 0:
		return usagef("--idle-timeout %v: 0 or more, as in 1h", c.idle)
	case c.stall <= 0:
		return usagef("--stall-timeout %v: more than 0, as in 30s", c.stall)
	case c.drain <= 0:
		return usagef("--drain-timeout %v: more than 0, as in 10s", c.drain)
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

// usageError is an error that the command line alone shows.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func isUsage(err error) bool { return errors.As(err, new(usageError)) }

// flagError says in plain words what is wrong with a flag.
func flagError(_ *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var alone *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			return usagef("there is no flag -%s", short)
		}
		return usagef("there is no flag --%s", unknown.GetSpecifiedName())
	case errors.As(err, &alone):
		name, _ := pflag.UnquoteUsage(alone.GetFlag())
		return usagef("--%s needs a value: --%s %s", alone.GetFlag().Name, alone.GetFlag().Name, name)
	case errors.As(err, &wrong):
		return usagef("--%s: %w", wrong.GetFlag().Name, valueError(wrong.GetFlag(), wrong.GetValue(), wrong.Unwrap()))
	}
	return usageError{err}
}

// valueError says what the value of a flag should have been.
func valueError(f *pflag.Flag, value string, err error) error {
	switch f.Value.Type() {
	case "bool":
		return fmt.Errorf("%q is neither true nor false", value)
	case "int":
		return fmt.Errorf("%q is no whole number", value)
	case "duration":
		return fmt.Errorf("%q is no time, as 10s or 2m", value)
	}
	return err
}
