package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
	"github.com/go-partd/partd/internal/mergejoin"
)

// joinKinds are the values of --how, in the order of their numbers.
var joinKinds = []string{
	mergejoin.Inner: "inner", mergejoin.Left: "left", mergejoin.Right: "right",
	mergejoin.Full: "full", mergejoin.Semi: "semi", mergejoin.Anti: "anti",
}

const joinHelp = `Read two files, and write the pairs of records that are equal in the fields of
--on. Either file may be larger than memory, and so may the records that share one
value, on both sides: what does not fit in memory goes to temporary files. The
output has no particular order.

--on names the fields, as --by of other commands does: F, or F,G for several; F=G
if the right file has another name for it.

--how says what becomes of records without a partner:
  inner  leave them out (the default)
  left   write those of LEFT, with the columns of RIGHT missing
  right  write those of RIGHT
  full   write those of both
  semi   write only the records of LEFT that have a partner, once and as they are
  anti   write only the records of LEFT that have none

Fields are compared as bytes: 1 is not 1.0. A missing value (an empty field; null
or no member in jsonl) in any of them matches nothing, as NULL in SQL;
--match-empty makes it a value like others.

A row has the fields of --on, with the names of LEFT, then the other fields of
LEFT, then those of RIGHT; a name that is taken gets "_right" at its end.

The smaller file is kept in memory, if it fits in about three quarters of
--memory, and the other one streams past it: rows come out while it is read. If
neither fits, both are sorted, on the disk where needed. --stats says which it
was.

Where files are sorted, a record, counting its fields of --on again, may be as
long as a two-hundredth of --memory.

At the end the records joined are compared with those read: their number and a
checksum over all of them; and the pairs of each value are counted.`

func newJoin(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join --on F[=G][,F[=G]…] [--how KIND] [flags] [--] LEFT RIGHT",
		Short: "Join two files by fields",
		Long:  joinHelp + formatsHelp,
		Example: `  partd join --on user orders.csv users.csv
  partd join --on "Origin State=state" --how left strikes.csv states.csv
  partd join --on 1 --how anti --no-header --format csv new.csv -`,
		Args: cliutil.Takes(2, 2, "LEFT and RIGHT (- is standard input)"),
	}
	on := cmd.Flags().String("on", "", "the fields `F[=G],…` to join on")
	how := cmd.Flags().String("how", "inner", "the `KIND` of join: "+strings.Join(joinKinds, ", "))
	matchEmpty := cmd.Flags().Bool("match-empty", false, "missing values match each other")
	cliutil.Complete(cmd, "how", joinKinds...)
	in, out := newInputFlags(cmd, "write what --stats shows as one JSON object", ""), newOutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		kind := slices.Index(joinKinds, *how)
		switch {
		case *on == "":
			return cliutil.Usagef("--on is missing: give the fields to join on")
		case kind < 0:
			return cliutil.Usagef("--how %q: there are %s", *how, strings.Join(joinKinds, ", "))
		}
		right, err := in.layout(files[1:])
		if err != nil {
			return err
		}
		return runFiles(cmd, a, files[:1], &in, &out, filejobs.Join(filejobs.JoinOptions{
			On: *on, How: mergejoin.How(kind), MatchEmpty: *matchEmpty, Right: files[1], RightFrom: right,
		}))
	}
	completeFields(cmd, "on", &in)
	return cmd
}
