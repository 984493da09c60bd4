package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// textFlags are the flags of commands that read CSV and TSV. They do not affect files in other formats.
type textFlags struct {
	a      *app
	ragged records.Ragged
	values records.Values
	mended formats.MendedCount // of all inputs
}

func newTextFlags(a *app, cmd *cobra.Command) *textFlags {
	t := &textFlags{a: a}
	cmd.Flags().VarPF(&t.ragged, "ragged", "", records.RaggedUsage).NoOptDefVal = "true"
	cmd.Flags().StringArrayVar(&t.values.Nulls, "null", nil, "read unquoted fields of csv and tsv that are this `TEXT`, such as NA, as null; repeat it for several")
	cliutil.NumberFlags(cmd, &t.values.Decimal, &t.values.Thousands)
	cliutil.Complete(cmd, "ragged", records.RaggedNames...)
	return t
}

// apply sets the options of an input.
func (t *textFlags) apply(in *formats.Input) error {
	in.Mended, in.Ragged, in.Values = &t.mended, t.ragged, t.values
	if err := t.values.Check(""); err != nil {
		return cliutil.Usagef("%w", err)
	}
	return nil
}

// report writes how many records --ragged changed, if any.
func (t *textFlags) report() {
	if text := t.mended.Total().String(); text != "" {
		fmt.Fprintln(t.a.err, "partd-tables:", text)
	}
}
