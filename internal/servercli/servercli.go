// Package servercli is the command line of partd-server.
package servercli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
)

// Exit codes.
const (
	exitOK     = cliutil.ExitOK
	exitFailed = cliutil.ExitFailed
	exitUsage  = cliutil.ExitUsage
	exitSignal = 128 // and the number of the signal
)

// streams are where the command writes: what it has to say to programs, and to
// people.
type streams struct{ out, err io.Writer }

// Main runs the command line with the process's streams and signals, and
// returns the exit code. The first SIGINT or SIGTERM lets the server finish what
// is under way; a second ends the process at once.
func Main(args []string) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan int, 1)
	s := streams{os.Stdout, os.Stderr}
	go func() { done <- run(ctx, args, s) }()
	select {
	case code := <-done:
		return code
	case <-signals:
		cancel()
	}
	select {
	case code := <-done:
		return code
	case sig := <-signals:
		fmt.Fprintln(s.err, "partd-server: a second signal: ending at once, without waiting for what is under way")
		if number, ok := sig.(syscall.Signal); ok {
			return exitSignal + int(number)
		}
		return exitFailed
	}
}

func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(s.err, "partd-server: %v\n", err)
	if cliutil.IsUsage(err) {
		fmt.Fprintln(s.err, `Try "partd-server --help".`)
		return exitUsage
	}
	return exitFailed
}

const help = `partd-server gives many processes the use of one store, over TCP or Unix sockets
(ZeroMQ's protocol): Go programs by tcp://HOST:PORT as the URL of a store, and
Python's partd by partd.Client("tcp://HOST:PORT").

For each address it prints "ready URL" once connections are accepted; with port 0
the system chooses a port. SIGTERM and SIGINT let it write everything to the store,
finish the requests under way (within --drain-timeout) and end; a second signal
ends it at once. SIGHUP is logged, and nothing else.

Whoever can connect may read, change and remove everything. So it listens on
addresses of this machine alone, unless --insecure is given.

Every flag can also be given as an environment variable, named in brackets
beside it; a flag on the command line goes before the variable.

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 130 and 143 ended at once
by a second signal.`

const examples = `  partd-server
  partd-server --store file:/data/shared --listen ipc:///run/partd/partd.sock
  partd-server --listen tcp://127.0.0.1:7077 --listen 'tcp://[::1]:7077'
  partd-server --store 'log:/data/partd?sync=true' --memory 2GiB --log-format json`

func newRoot(s streams) *cobra.Command {
	c := new(config)
	root := &cobra.Command{
		Use:           "partd-server",
		Short:         "Share one store among many processes, Go and Python",
		Long:          help,
		Example:       examples,
		Args:          noArguments,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// The only commands are those that complete and tell the version.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.complete(cmd); err != nil {
				return err
			}
			return serve(cmd.Context(), c, s)
		},
	}
	c.add(root)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(cliutil.FlagError)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(newCompletion(s), newVersion(s))
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	return root
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("partd-server takes flags, completion SHELL or version, but was given %q", args[0])
	}
	return nil
}

func newCompletion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write a script that completes flags in a shell",
		Example: `  source <(partd-server completion bash)
  partd-server completion fish | source`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("completion takes the name of a shell: bash, zsh, fish or powershell")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(s.out, true)
			case "zsh":
				return root.GenZshCompletion(s.out)
			case "fish":
				return root.GenFishCompletion(s.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(s.out)
			}
			return usagef("unknown shell %q: there are bash, zsh, fish, powershell", args[0])
		},
	}
}

func newVersion(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, version())
			return err
		},
	}
}

// version returns what server and Go it is.
func version() string {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return fmt.Sprintf("partd-server %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// beyondLoopback tells whether an address can be reached from another machine.
func beyondLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}
