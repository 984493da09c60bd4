package cliutil

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/nearest"
)

// Program is a command line as a whole.
type Program struct {
	Env       *Env
	ExitCodes string // for the help
	Out, Err  io.Writer
	Started   bool // a command's own work has begun: what went wrong before it is wrong usage
}

// Root makes a command, once it has its flags and subcommands, the root of the
// program. One that does nothing by itself shows its help.
func (p *Program) Root(root *cobra.Command) *cobra.Command {
	root.Long += `

Every flag can also be given as an environment variable, named in brackets
beside it; a flag on the command line takes precedence.

Exit codes: ` + p.ExitCodes
	// A template of cobra's would keep all methods of all types in the program.
	root.Version = strings.TrimPrefix(version(root.Name()), root.Name()+" version ")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + p.Env.VariableOf(cmd, f.Name) + "]" })
	}
	countArguments(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := p.Env.Set(cmd)
		p.Started = err == nil
		return err
	}
	root.SetFlagErrorFunc(FlagError)
	if root.RunE != nil {
		return root
	}
	root.Args = cobra.ArbitraryArgs
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return cmd.Help()
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && cmd.Flags().NArg() > 0 { // the flags were meant for what it calls a command
			return unknownCommand(cmd, cmd.Flags().Arg(0))
		}
		return FlagError(cmd, err)
	})
	return root
}

// countArguments has the commands that say nothing else take what their lines of usage do.
func countArguments(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		countArguments(cmd)
		if cmd.Args != nil {
			continue
		}
		least, most, what := usageTakes(cmd.Use)
		if cmd.Args = Takes(least, most, what); most == 0 && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	return Usagef("unknown command %q%s: there are %s", name, nearest.Hint(name, names), strings.Join(names, ", "))
}

// NewVersion is the command that shows the version of a program.
func NewVersion(out io.Writer, program string) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Long:    "Show the version of " + program + ", and of the Go that built it.",
		Example: "  " + program + " version",
		Args:    Takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(out, version(program))
			return err
		},
	}
}

func version(program string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return describe(program, info)
}

// describe names the version of a program, the commit it was built of where that
// is known, Go's version and the system.
func describe(program string, info *debug.BuildInfo) string {
	words := []string{program, "version", cmp.Or(info.Main.Version, "(devel)")}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if commit := settings["vcs.revision"]; commit != "" {
		commit = commit[:min(12, len(commit))]
		if settings["vcs.modified"] == "true" {
			commit += "+dirty"
		}
		words = append(words, commit)
	}
	return strings.Join(append(words, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH), " ")
}
