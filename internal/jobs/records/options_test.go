package records

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestOptions checks that each option sets a field whose name in JSON is the option's, that JSON keeps the options, and
// that each field has an option.
func TestOptions(t *testing.T) {
	values := map[string][]string{"sep": {`\t`}, "ragged": {"cut"}, "null": {"NA", "-"}, "decimal": {","}, "thousands": {"."}, "encoding": {"Latin-1"}}
	var all TextOptions
	var names []string
	for _, option := range Options(&all) {
		var one TextOptions
		names = append(names, option.Name)
		for _, of := range []*TextOptions{&one, &all} {
			for _, o := range Options(of) {
				for _, value := range values[o.Name] {
					if o.Name == option.Name {
						must.Do(t, o.Value.Set(value))
					}
				}
				if o.Name == option.Name && o.Value.Type() == "bool" && values[o.Name] == nil {
					must.Do(t, o.Value.Set("true"))
				}
			}
		}
		members := map[string]any{}
		must.Do(t, json.Unmarshal(must.Get(json.Marshal(one))(t), &members))
		if _, ok := members[option.Name]; !ok || len(members) != 1 {
			t.Errorf("--%s sets %v", option.Name, members)
		}
	}
	var read TextOptions
	encoded := must.Get(json.Marshal(all))(t)
	must.Do(t, json.Unmarshal(encoded, &read))
	if !reflect.DeepEqual(read, all) || all.Sep != "\t" || all.Ragged != CutRagged || !slices.Equal(all.Nulls, values["null"]) {
		t.Errorf("%s is read as %+v, want %+v", encoded, read, all)
	}
	fields := len(reflect.VisibleFields(reflect.TypeFor[TextOptions]())) - 1 // without the embedded struct itself
	if len(names) != fields {
		t.Errorf("the options are %q, but there are %d fields", names, fields)
	}
	if left := Options(&all, "null", "sep"); len(left) != len(names)-2 {
		t.Errorf("%d options without null and sep, want %d", len(left), len(names)-2)
	}
}

// TestOptionErrors checks that an error about an option names its flag.
func TestOptionErrors(t *testing.T) {
	for want, c := range map[string]struct {
		format  Format
		options TextOptions
	}{
		"":                          {CSV, TextOptions{Sep: ";", NoHeader: true, Ragged: CutRagged, Values: Values{Decimal: ","}}},
		"--sep: the separator":      {CSV, TextOptions{Sep: "ab"}},
		"--sep: a separator":        {TSV, TextOptions{Sep: ","}},
		"--no-header is only":       {Text, TextOptions{NoHeader: true}},
		"--ragged is only":          {JSONL, TextOptions{Ragged: FillRagged}},
		"--row-names is only":       {CSV, TextOptions{RowNames: true, NoHeader: true}},
		`--null "a;b": an unquoted`: {CSV, TextOptions{Sep: ";", Values: Values{Nulls: []string{"a;b"}}}},
		`--decimal "x": use`:        {Text, TextOptions{Values: Values{Decimal: "x"}}},
		`--thousands "..": use one`: {CSV, TextOptions{Values: Values{Thousands: ".."}}},
	} {
		layout, err := c.options.Layout(c.format)
		if (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the layout for %+v is %+v, %v, want the error %q", c, layout, err, want)
		}
	}
}
