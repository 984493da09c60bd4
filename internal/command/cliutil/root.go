package cliutil

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/base/textfmt"
)

// Program is a command line with all its commands.
type Program struct {
	Env       *Env
	ExitCodes string // description of the exit codes in the help
	Out, Err  io.Writer
	Started   bool // whether a command has started; errors before that are usage errors
	// Details adds details of err to the JSON object that Fail writes, and further kinds of err to words. It may be nil.
	Details func(err error, words []string, object map[string]any) []string

	// Sibling is another program. If a user enters one of its commands, the error says so.
	Sibling struct {
		Name     string
		Commands []string
	}

	name string
	help *helpOutput
}

// helpOutput writes help and the version to w. It keeps the first error, because cobra ignores
// errors from writing help.
type helpOutput struct {
	w   io.Writer
	err error
}

func (o *helpOutput) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	o.err = cmp.Or(o.err, err)
	return n, err
}

// Execute runs root with args. [Program.Root] must have set up root. Execute returns the command that
// ran. If help or the version could not be written, Execute returns that error, which is not a usage
// error.
func (p *Program) Execute(ctx context.Context, root *cobra.Command, args []string) (*cobra.Command, error) {
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if p.help.err != nil {
		p.Started = true
		err = p.help.err
	}
	return cmd, explainMissing(cmd, err)
}

var missingFlags = regexp.MustCompile(`^required flag\(s\) "([^"]*)".* not set$`)

// explainMissing replaces cobra's error about missing required flags with a usage error that describes the first of
// them. It returns other errors unchanged.
func explainMissing(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	m := missingFlags.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	value, usage := pflag.UnquoteUsage(cmd.Flags().Lookup(m[1]))
	usage, _, _ = strings.Cut(usage, " [$")
	return Usagef("--%s %s is missing: %s", m[1], value, usage)
}

// Root sets up a program's root command, which must already have its flags and subcommands. A root
// command without RunE shows its help.
func (p *Program) Root(root *cobra.Command) *cobra.Command {
	root.Long += `

Every flag can also be given as an environment variable, named in brackets
next to it; a flag on the command line takes precedence.

Exit codes: ` + p.ExitCodes
	// cobra prints "NAME version " before Version, so remove these words from the text. A custom
	// template would link all exported methods into the program.
	root.Version = strings.TrimPrefix(version(root.Name()), root.Name()+" version ")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	p.help, p.name = &helpOutput{w: p.Out}, root.Name()
	root.SetOut(p.help)
	root.SetErr(p.Err)
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + p.Env.VariableOf(cmd, f.Name) + "]" })
	}
	setArgCounts(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if p.Env.Ignored != nil {
			p.Env.warnUnknown(root, p.Err)
		}
		err := p.Env.Apply(cmd)
		p.Started = err == nil
		return err
	}
	root.SetFlagErrorFunc(FlagError)
	p.wrapFlags(root)
	if root.RunE != nil {
		return root
	}
	root.Args = cobra.ArbitraryArgs
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return p.unknownCommand(cmd, args[0])
		}
		return cmd.Help()
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && cmd.Flags().NArg() > 0 { // the flag belongs to the unknown command
			return p.unknownCommand(cmd, cmd.Flags().Arg(0))
		}
		return FlagError(cmd, err)
	})
	return root
}

// maxHelpWidth is the maximum width of the help for flags, in columns.
const maxHelpWidth = 120

// wrapFlags wraps the help for flags to the width of the terminal.
func (p *Program) wrapFlags(root *cobra.Command) {
	usage := root.UsageFunc()
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		out := cmd.OutOrStderr()
		defer cmd.SetOut(out)
		var text strings.Builder
		cmd.SetOut(&text)
		if err := usage(cmd); err != nil {
			return err
		}
		flags := cmd.LocalFlags()
		unwrapped := strings.TrimSpace(flags.FlagUsages())
		wrapped := strings.TrimSpace(flags.FlagUsagesWrapped(min(progress.TerminalWidth(p.Out, maxHelpWidth), maxHelpWidth)))
		_, err := io.WriteString(out, strings.Replace(text.String(), unwrapped, wrapped, 1))
		return err
	})
}

// setArgCounts sets the Args of commands that have none, according to their usage lines.
func setArgCounts(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		setArgCounts(cmd)
		if cmd.Args != nil {
			continue
		}
		minArgs, maxArgs, missing := argCounts(cmd.Use)
		cmd.Args = CheckArgCount(minArgs, maxArgs, missing)
		if maxArgs == 0 && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

func (p *Program) unknownCommand(root *cobra.Command, name string) error {
	if slices.Contains(p.Sibling.Commands, name) {
		return Usagef("%s has no command %q: use %s %s", root.Name(), name, p.Sibling.Name, name)
	}
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	return Usagef("unknown command %q%s: use one of %s", name, textfmt.Hint(name, names), strings.Join(names, ", "))
}

// NewVersion returns the command that prints a program's version.
func NewVersion(out io.Writer, program string) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Long:    "Show the version of " + program + " and of the Go release that built it.",
		Example: "  " + program + " version",
		Args:    CheckArgCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(out, version(program))
			return err
		},
	}
}
