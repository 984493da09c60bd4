package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// app is the state that the commands share.
type app struct {
	in          *os.File
	out, errOut io.Writer
	program     cliutil.Program
	formats     formats.Set // nil means the standard formats
}

// env sets flags from environment variables. The prefix is not PARTD_, which belongs to the program partd.
var env = &cliutil.Env{Prefix: "PARTD_TABLES_", Excludes: map[string][]string{
	"server": {"dir", readOnlyFlag}, readOnlyFlag: {"server"}, "copy server": {"from"}, "dir": {"server", "bucket_dir"}, "bucket_dir": {"dir"},
	"listen": {"port", "host"}, "port": {"listen"}, "host": {"listen"},
	"tls-cert": {"cert_file"}, "cert_file": {"tls-cert"}, "tls-key": {"key_file"}, "key_file": {"tls-key"},
	"secret-file": {"secret"}, "secret": {"secret-file"}, "to-format": {"format", "to"}, "format": {"to-format"}, "to": {"to-format"},
}}

// timeText formats a time in UTC with milliseconds, because times in a table's metadata have this precision.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// displayName formats a name for text output. It quotes names that are empty or not printable.
func displayName(name string) string {
	if cliutil.IsPrintable(name) {
		return name
	}
	return strconv.Quote(name)
}

// cell formats a name or other text for a column of text output. Empty text becomes "-".
func cell(text string) string {
	switch text {
	case "":
		return "-"
	case "-":
		return strconv.Quote(text)
	}
	return displayName(text)
}

// count returns "n noun", with the noun in the plural unless n is 1.
func count[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}

// report tells the user on standard error what a command has done.
func (a *app) report(format string, args ...any) error {
	_, err := fmt.Fprintf(a.errOut, format, args...)
	return err
}

// printResult is like report, but with --json it writes result to standard output instead.
func (a *app) printResult(asJSON bool, result any, format string, args ...any) error {
	if asJSON {
		return cliutil.NewEncoder(a.out).Encode(result)
	}
	return a.report(format, args...)
}

// printRecords prints records as JSON lines, or in columns headed by the fields' JSON names. It calls write, which must
// call emit once for each record.
func printRecords[T any](out io.Writer, asJSON bool, write func(emit func(T) error) error) error {
	buffered := bufio.NewWriter(out)
	if asJSON {
		e := cliutil.NewEncoder(buffered)
		return errors.Join(write(func(record T) error { return e.Encode(record) }), buffered.Flush())
	}
	w := tabwriter.NewWriter(buffered, 0, 0, 2, ' ', 0)
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		// Fields with omitempty must come last. They have no title, and are printed only if they are set and not bools.
		if !strings.Contains(f.Tag.Get("json"), ",") {
			names = append(names, strings.ToUpper(f.Tag.Get("json")))
		}
	}
	line := func(fields []string) error {
		_, err := fmt.Fprintln(w, strings.Join(fields, "\t"))
		return err
	}
	return errors.Join(line(names), write(func(record T) error {
		var fields []string
		for i := range reflect.TypeFor[T]().NumField() {
			if v := reflect.ValueOf(record).Field(i); i < len(names) || !v.IsZero() && v.Kind() != reflect.Bool {
				fields = append(fields, cell(fmt.Sprint(v)))
			}
		}
		return line(fields)
	}), w.Flush(), buffered.Flush())
}

// printList prints a record for each item; see printRecords. toLine converts an item to a record.
func printList[T, Line any](out io.Writer, asJSON bool, items []T, toLine func(T) Line) error {
	return printRecords(out, asJSON, func(emit func(Line) error) error {
		for _, v := range items {
			if err := emit(toLine(v)); err != nil {
				return err
			}
		}
		return nil
	})
}

// metadataText formats a metadata value for text output: strings unchanged, and other values as JSON.
func metadataText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
