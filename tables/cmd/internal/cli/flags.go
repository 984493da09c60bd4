package cli

import (
	"encoding/csv"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// modeFlag adds the flag --mode for puts. target names the table in the help. The returned function returns the mode
// after the flags are parsed.
func modeFlag(cmd *cobra.Command, target, defaultMode string) func() (tables.PutMode, error) {
	mode := cmd.Flags().String("mode", defaultMode, "what to do if "+target+" exists: `MODE` is error, append or replace")
	cliutil.Complete(cmd, "mode", "error", "append", "replace")
	return func() (tables.PutMode, error) {
		if m, ok := operations.PutModes[*mode]; ok {
			return m, nil
		}
		return 0, cliutil.Usagef("--mode %q: use error, append or replace", *mode)
	}
}

// formatFlag adds a flag with the given name for the format of files to read.
func (a *app) formatFlag(cmd *cobra.Command, flag string) *string {
	format := cmd.Flags().String(flag, "", "`FORMAT` of FILE: "+a.formats.Readable().Choice()+" (default: by FILE's extension)")
	cliutil.Complete(cmd, flag, a.formats.Readable().Names()...)
	return format
}

// rangeFlags adds the flags --from and --to. The returned function returns their times after the flags are parsed; the
// time of a flag that is not set is zero.
func rangeFlags(cmd *cobra.Command, fromUsage, toUsage string) func() (from, to time.Time, err error) {
	texts := []*string{cmd.Flags().String("from", "", fromUsage), cmd.Flags().String("to", "", toUsage)}
	return func() (_, _ time.Time, err error) {
		var times [2]time.Time
		for i, text := range texts {
			if *text == "" {
				continue
			}
			times[i], _, err = filter.ParseTime(*text)
			if err != nil {
				return times[0], times[1], cliutil.Usagef("--%s: %w", []string{"from", "to"}[i], err)
			}
		}
		return times[0], times[1], nil
	}
}

// aliasFlag adds a hidden flag, alias, that sets the value of the flag called name. It keeps older names working.
func aliasFlag(cmd *cobra.Command, alias, name string) {
	f := *cmd.Flags().Lookup(name)
	f.Name, f.Hidden = alias, true
	cmd.Flags().AddFlag(&f)
}

// findFormat returns the format with the given name, which is the value of a flag.
func findFormat(flag, name string, from formats.Set) (*formats.Format, error) {
	f, err := from.Find(name)
	if err != nil {
		return nil, cliutil.Usagef("--%s %w", flag, err)
	}
	return f, nil
}

// columnNames parses the value of a flag that is a comma-separated list of names.
func columnNames(flag, text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	names, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, cliutil.Usagef("--%s: %w", flag, err)
	}
	return names, nil
}

// stateFlags adds --version, --at and --snapshot. After the flags are parsed, the returned function returns the selected
// state, or nil for the current state.
func stateFlags(cmd *cobra.Command) func() tables.At {
	fs := cmd.Flags()
	version := fs.Int64("version", 0, "use this `VERSION` of the table (default: the current one)")
	var at time.Time
	fs.Func("at", "use the state that readers saw at this `TIME`", func(text string) (err error) {
		at, _, err = filter.ParseTime(text)
		return err
	})
	cliutil.Experimental(cmd, "at")
	snapshot := fs.String("snapshot", "", "use the state in this `SNAPSHOT` of the bucket")
	cmd.MarkFlagsMutuallyExclusive("version", "at", "snapshot")
	return func() tables.At {
		switch {
		case fs.Changed("at"):
			return tables.AtTime(at)
		case fs.Changed("snapshot"):
			return tables.AtSnapshot(*snapshot)
		case fs.Changed("version"):
			return tables.AtVersion(tables.Version(*version))
		}
		return nil
	}
}

// readOptional returns the text in the file that a flag names, or "" if file is "".
func readOptional(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", cliutil.Usagef("%s: %w", flag, err)
	}
	return string(b), nil
}

// readLine is like readOptional for a file with a single line, but removes the line breaks at its end. It rejects text
// with a byte order mark or with control characters, which an editor may have added. It accepts control characters in
// random bytes, which are usually not valid UTF-8.
func readLine(flag, file string) (string, error) {
	text, err := readOptional(flag, file)
	text = strings.TrimRight(text, "\r\n")
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(text, mark) {
			return "", cliutil.Usagef("%s: line 1 of %s begins with a byte order mark: save the file as UTF-8 without one", flag, file)
		}
	}
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 && utf8.ValidString(text) {
		return "", cliutil.Usagef("%s: line %d of %s contains a control character, or a line break follows it: the file must have a single line of text", flag, 1+strings.Count(text[:i], "\n"), file)
	}
	return text, err
}

// readSecret reads a secret from the file that a flag names.
func readSecret(flag, file string) ([]byte, error) {
	secret, err := readLine(flag, file)
	if err != nil {
		return nil, err
	}
	if secret == "" {
		return nil, cliutil.Usagef("%s: %s is empty", flag, file)
	}
	return []byte(secret), nil
}

// parseWhere parses the value of --where. It returns nil if the value is empty.
func parseWhere(text string) (*filter.Expr, error) {
	if text == "" {
		return nil, nil
	}
	e, err := filter.Parse(text)
	if err != nil {
		return nil, cliutil.Usagef("--where: %w", err)
	}
	return e, nil
}
