package records

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// TextOptions say how to read CSV, TSV, JSON lines and text.
type TextOptions struct {
	Sep      string `json:"sep,omitempty"`       // separator; "" means a comma for CSV and white space for text
	NoHeader bool   `json:"no-header,omitempty"` // CSV and TSV: the first record is data
	RowNames bool   `json:"row-names,omitempty"` // CSV and TSV: see [Layout]
	Ragged   Ragged `json:"ragged,omitempty"`    // CSV and TSV: what happens to records with more or fewer fields than the header
	Values          // CSV and TSV: how fields represent missing values and numbers
	Encoding string `json:"encoding,omitempty"` // "" means UTF-8, or UTF-16 if a file has its byte order mark
	SkipBad  bool   `json:"skip-bad,omitempty"` // bad records are skipped and counted
}

// Option is one of the [TextOptions]. Commands have a flag with its name, and requests have a parameter.
type Option struct {
	Name, Usage string   // Usage has the name of the value in backquotes
	Suggestions []string // values that shells complete
	Value       Value
}

// Value is the value of an option. It implements the interface of the same name in package pflag.
type Value interface {
	Set(text string) error
	String() string
	Type() string
}

// Options returns all options, with the fields of o as their values, except those with the given names.
func Options(o *TextOptions, except ...string) []Option {
	return slices.DeleteFunc([]Option{
		{Name: "sep", Usage: "split fields of csv and other text at this `STRING` (csv: one byte; \\t is a tab)", Value: separator{(*text)(&o.Sep)}},
		{Name: "no-header", Usage: "treat the first record of csv and tsv as data", Value: (*toggle)(&o.NoHeader)},
		{Name: "row-names", Usage: "name the first column row_names if the header of a csv or tsv file has one name too few, as in files written by R", Value: (*toggle)(&o.RowNames)},
		{Name: "ragged", Usage: "fill short records of csv and tsv with empty fields; --ragged=cut also cuts longer ones", Suggestions: []string{"fill", "cut"}, Value: &o.Ragged},
		{Name: "null", Usage: "read unquoted fields of csv and tsv that are this `TEXT`, such as NA, as missing values; repeat it for several", Value: (*list)(&o.Nulls)},
		{Name: "decimal", Usage: "numbers of csv and tsv have this decimal `MARK`, a comma or a point (default: a point)", Suggestions: []string{",", "."}, Value: (*text)(&o.Decimal)},
		{Name: "thousands", Usage: "numbers of csv and tsv have this `CHAR` between groups of three digits (experimental)", Value: (*text)(&o.Thousands)},
		{Name: "encoding", Usage: "read text in this `ENCODING`: " + strings.Join(encodings[:5], ", ") + " or " + encodings[5] + " (default: utf-8, or utf-16 if a file has its byte order mark)", Suggestions: encodings, Value: encoding{(*text)(&o.Encoding)}},
		{Name: "skip-bad", Usage: "skip and count bad records", Value: (*toggle)(&o.SkipBad)},
	}, func(o Option) bool { return slices.Contains(except, o.Name) })
}

// Layout returns the layout of a file. If an option is invalid or does not apply to the format, the error names its flag.
func (o *TextOptions) Layout(f Format) (Layout, error) {
	l := Layout{Format: f, NoHeader: o.NoHeader, Sep: o.Sep, Ragged: o.Ragged, RowNames: o.RowNames, Encoding: o.Encoding}
	hasColumns := f == CSV || f == TSV
	if err := l.Check(); err != nil {
		return l, fmt.Errorf("--sep: %w", err)
	}
	switch {
	case l.NoHeader && !hasColumns:
		return l, fmt.Errorf("--no-header is only for csv and tsv: %s never has a header", f)
	case l.Ragged != RefuseRagged && !hasColumns:
		return l, fmt.Errorf("--ragged is only for csv and tsv: records of %s can have any number of fields", f)
	case l.RowNames && !l.HasHeader():
		return l, errors.New("--row-names is only for csv and tsv with a header")
	}
	if hasColumns && o.Values.isSet() {
		l.Values = &o.Values
	}
	return l, o.Values.Check(string(l.Separator()))
}

// ParseSeparator returns the separator that a flag names: \t means a tab, which is hard to type, and \\ means a
// backslash.
func ParseSeparator(text string) (string, error) {
	if strings.Contains(strings.NewReplacer(`\\`, "", `\t`, "").Replace(text), `\`) {
		return "", fmt.Errorf(`%q has a backslash: write \t for a tab, or \\ for a backslash`, text)
	}
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t").Replace(text), nil
}

type text string

func (t *text) Set(value string) error {
	*t = text(value)
	return nil
}

func (t *text) String() string { return string(*t) }
func (t *text) Type() string   { return "string" }

type separator struct{ *text }

func (s separator) Set(value string) error {
	if value == "" {
		return errors.New("it is empty: omit it to use commas in csv, or white space in text")
	}
	sep, err := ParseSeparator(value)
	*s.text = text(sep)
	return err
}

type encoding struct{ *text }

func (e encoding) Set(value string) error {
	value = strings.ToLower(value)
	if !slices.Contains(encodings, value) {
		return fmt.Errorf("unknown encoding %q: use one of %s", value, strings.Join(encodings, ", "))
	}
	*e.text = text(strings.TrimPrefix(value, "utf-8"))
	return nil
}

type list []string

func (l *list) Set(text string) error {
	*l = append(*l, text)
	return nil
}

func (l *list) String() string { return strings.Join(*l, " ") }
func (l *list) Type() string   { return "stringArray" }

type toggle bool

func (t *toggle) Set(text string) error {
	isOn, err := strconv.ParseBool(text)
	*t = toggle(isOn)
	return err
}

func (t *toggle) String() string { return strconv.FormatBool(bool(*t)) }
func (t *toggle) Type() string   { return "bool" }
