// Package rules checks the rows of puts into tables. It defines rules, edits them, and finds rows that
// violate them.
package rules

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Rule is a condition for the rows that are put into a table. If rows violate it, the whole put is
// rejected. Existing rows are not checked.
//
// If a put lacks the column of an exists or not_null rule, the put violates the rule. Every other rule is satisfied if
// the table lacks the rule's column. If only the put lacks the column, the column's values count as null.
type Rule struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`               // one of Kinds
	Column   string `json:"column,omitempty"`   // column to check; not for unique and expression
	Type     string `json:"type,omitempty"`     // for type: the required type, in Arrow's notation
	Min      string `json:"min,omitempty"`      // for range: the smallest value, written as in a filter but without quotes
	Max      string `json:"max,omitempty"`      // for range: the largest value
	Pattern  string `json:"pattern,omitempty"`  // for regexp: must match a part of the string; syntax of package regexp
	Where    string `json:"where,omitempty"`    // for expression: a filter that must be true or null for every row
	Disabled bool   `json:"disabled,omitempty"` // the rule is stored but not applied

	Columns []string `json:"columns,omitempty"`  // for unique: columns in which rows must differ; rows with a null are not compared
	InTable bool     `json:"in_table,omitempty"` // for unique: also compare with the table's rows
}

// Kinds are the kinds of rules.
var Kinds = []string{"exists", "type", "range", "not_null", "unique", "sorted", "regexp", "expression"}

// Error lists the rules that a rejected put violates.
type Error struct{ Violations []Violation }

// Violation describes how a put violates a rule.
type Violation struct {
	Rule   string   `json:"rule"`
	Reason string   `json:"reason,omitempty"` // set if columns, not rows, violate the rule
	Count  int64    `json:"count,omitempty"`  // number of rows that violate the rule
	Rows   []BadRow `json:"rows,omitempty"`   // the first ten of these rows
}

// BadRow is a row that violates a rule.
type BadRow struct {
	Row    int64  // number of the row in the put, starting at 1
	Values string // the values of the rule's columns, as column=value
}

func (e *Error) Error() string {
	var all []string
	for _, v := range e.Violations {
		text := fmt.Sprintf("rule %q: %s", v.Rule, v.Reason)
		if v.Reason == "" {
			text = fmt.Sprintf("rule %q: %d rows violate it", v.Rule, v.Count)
			for i, r := range v.Rows {
				text += fmt.Sprintf("%s row %d (%s)", map[bool]string{true: ":", false: ","}[i == 0], r.Row, r.Values)
			}
			if v.Count > int64(len(v.Rows)) {
				text += " and more"
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// Names returns the names of the columns that a rule uses.
func (r Rule) Names() []string {
	if r.Kind == "expression" {
		if e, err := filter.Parse(r.Where); err == nil {
			return e.Columns()
		}
	}
	if r.Kind == "unique" {
		return r.Columns
	}
	return []string{r.Column}
}

func (r Rule) check() (err error) {
	switch {
	case r.Name == "" || len(r.Name) > maxName:
		return fmt.Errorf("the rule's name %q must have 1 to %d bytes", r.Name, maxName)
	case !slices.Contains(Kinds, r.Kind):
		return fmt.Errorf("rule %q: unknown kind %q: use one of %q", r.Name, r.Kind, Kinds)
	case r.Kind == "unique" && len(r.Columns) == 0:
		err = errors.New("the rule needs columns")
	case r.Kind == "expression":
		_, err = filter.Parse(r.Where)
	case r.Kind != "unique" && r.Column == "":
		err = errors.New("the rule needs a column")
	case r.Kind == "type":
		_, err = schema.Parse(r.Type)
	case r.Kind == "range" && r.Min == "" && r.Max == "":
		err = errors.New("the rule needs min, max or both")
	case r.Kind == "regexp":
		_, err = regexp.Compile(r.Pattern)
	}
	if err != nil {
		return fmt.Errorf("rule %q, %s: %w", r.Name, r.Kind, err)
	}
	return nil
}

// maxName limits the bytes of a rule's name.
const maxName = 255

// Edit changes the rules of a table or a bucket.
type Edit struct {
	Add     []Rule   `json:"add,omitempty"`    // rules to add; each replaces an existing rule of the same name
	Sets    []string `json:"sets,omitempty"`   // predefined rules to add: time_series or prices
	Time    string   `json:"time,omitempty"`   // time column of the predefined rules; if "", the time column in the settings, else the first column of a time type, else "time"
	Remove  []string `json:"remove,omitempty"` // names of rules
	Disable []string `json:"disable,omitempty"`
	Enable  []string `json:"enable,omitempty"`
}

// Parse parses rules in their stored form. "" means no rules.
func Parse(text string) ([]Rule, error) {
	return icecat.ParseProperty[[]Rule](icecat.RulesProperty, text)
}

// MissingError is the name of a rule that an edit refers to but that does not exist.
type MissingError string

func (m MissingError) Error() string { return fmt.Sprintf("the rule %q does not exist", string(m)) }

// Apply applies the edit to rules and returns the resulting rules in their stored form. timeColumn and keys come from
// the table's settings. columns is nil for a bucket, because its rules are checked against each put's columns.
func (e *Edit) Apply(rules []Rule, timeColumn string, keys []string, columns *arrow.Schema) (string, error) {
	rules, add := slices.Clone(rules), slices.Clone(e.Add)
	for _, set := range e.Sets {
		added, err := ruleSet(set, cmp.Or(e.Time, timeColumn), keys, columns)
		if err != nil {
			return "", err
		}
		add = append(add, added...)
	}
	indexOf := func(name string) int { return slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name }) }
	for _, r := range add {
		if err := r.check(); err != nil {
			return "", err
		}
		if i := indexOf(r.Name); i >= 0 {
			rules[i] = r
		} else {
			rules = append(rules, r)
		}
	}
	for _, name := range slices.Concat(e.Remove, e.Disable, e.Enable) {
		i := indexOf(name)
		if i < 0 {
			return "", MissingError(name)
		}
		if slices.Contains(e.Remove, name) {
			rules = slices.Delete(rules, i, i+1)
			continue
		}
		rules[i].Disabled = slices.Contains(e.Disable, name)
	}
	if columns != nil {
		for _, r := range rules {
			if _, err := r.filter(columns); err != nil {
				return "", fmt.Errorf("rule %q: %w", r.Name, err)
			}
		}
	}
	if len(rules) == 0 {
		return "", nil
	}
	b, err := json.Marshal(rules)
	if err == nil && len(b) > 1<<20 {
		err = errors.New("the rules are larger than 1 MiB")
	}
	return string(b), err
}

func ruleSet(set, timeColumn string, keys []string, columns *arrow.Schema) (rules []Rule, err error) {
	spelling := func(name string) string { // returns a column's name, capitalized as in the table
		if columns != nil {
			for _, f := range columns.Fields() {
				if strings.EqualFold(f.Name, name) {
					return f.Name
				}
			}
		}
		return name
	}
	switch set {
	case "time_series":
		if timeColumn == "" && columns != nil {
			for _, f := range columns.Fields() {
				if timeColumn == "" && (f.Type.ID() == arrow.TIMESTAMP || f.Type.ID() == arrow.DATE32) {
					timeColumn = f.Name
				}
			}
		}
		if timeColumn == "" {
			timeColumn = spelling("time")
		}
		return []Rule{
			{Name: "time exists", Kind: "exists", Column: timeColumn},
			{Name: "time is not null", Kind: "not_null", Column: timeColumn},
			{Name: "time is sorted", Kind: "sorted", Column: timeColumn},
			{Name: "time is unique", Kind: "unique", Columns: append([]string{timeColumn}, keys...)},
		}, nil
	case "prices":
		var q []any
		for _, name := range []string{"open", "high", "low", "close"} {
			rules = append(rules,
				Rule{Name: name + " is not null", Kind: "not_null", Column: spelling(name)},
				Rule{Name: name + " is not negative", Kind: "range", Column: spelling(name), Min: "0"})
			q = append(q, filter.Quoted(spelling(name)))
		}
		return append(rules,
			Rule{Name: "volume is not negative", Kind: "range", Column: spelling("volume"), Min: "0"},
			Rule{Name: "high is highest", Kind: "expression", Where: fmt.Sprintf("%[2]s >= %[1]s and %[2]s >= %[3]s and %[2]s >= %[4]s", q...)},
			Rule{Name: "low is lowest", Kind: "expression", Where: fmt.Sprintf("%[3]s <= %[1]s and %[3]s <= %[4]s", q...)}), nil
	}
	return nil, fmt.Errorf("unknown set of rules %q: use time_series or prices", set)
}
