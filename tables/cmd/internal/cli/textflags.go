package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// textFlags holds the flags for reading CSV and TSV. Other formats ignore these flags, except --sep, which is an error
// if it is set on the command line.
type textFlags struct {
	a       *app
	cmd     *cobra.Command
	options records.TextOptions
	mended  formats.MendedCount // the records of all inputs that --ragged changed
}

func newTextFlags(a *app, cmd *cobra.Command) *textFlags {
	t := &textFlags{a: a, cmd: cmd}
	for _, o := range formats.Options(&t.options) {
		cliutil.AddFlag(cmd, o.Value, o.Name, o.Usage, o.Suggestions)
	}
	return t
}

// apply sets the options of an input.
func (t *textFlags) apply(in *formats.Input) error {
	in.Mended, in.TextOptions = &t.mended, t.options
	if sep := t.cmd.Flags().Lookup("sep"); sep != nil && cliutil.IsFromVariable(sep) && in.Format != nil && in.Format.CheckOption("separator", in.Sep) != nil {
		in.Sep = ""
	}
	if err := in.Values.Check(""); err != nil {
		return cliutil.Usagef("%w", err)
	}
	return nil
}

// report writes how many records --ragged changed, if any.
func (t *textFlags) report() {
	if text := t.mended.Total().String(); text != "" {
		fmt.Fprintln(t.a.errOut, "partd-tables:", text)
	}
}
