package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
)

func schemaOf(t *testing.T, typ, defaults string) (*iceberg.Schema, *arrow.Schema) {
	t.Helper()
	var s iceberg.Schema
	text := fmt.Sprintf(`{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "c", "required": false, "type": %s%s}]}`, typ, defaults)
	must.Do(t, json.Unmarshal([]byte(text), &s))
	return &s, must.Get(StoredSchema(&s))(t)
}

// TestDefaults checks default values of all types, in the form of Iceberg's specification.
func TestDefaults(t *testing.T) {
	for _, c := range []struct{ typ, value, want string }{
		{`"boolean"`, `true`, "true"},
		{`"boolean"`, `false`, "false"},
		{`"int"`, `-7`, "-7"},
		{`"int"`, `2147483647`, "2147483647"},
		{`"long"`, `7`, "7"},
		{`"long"`, `-9007199254740991`, "-9007199254740991"},
		{`"float"`, `1.5`, "1.5"},
		{`"double"`, `1`, "1"},
		{`"decimal(9, 2)"`, `"-1.25"`, "-1.25"},
		{`"decimal(38, 2)"`, `"999999999999999999999999999999999999.99"`, "999999999999999999999999999999999999.99"},
		{`"date"`, `"1969-12-31"`, "1969-12-31"},
		{`"time"`, `"10:00:00"`, "10:00:00.000000"},
		{`"time"`, `"10:00:00.000001"`, "10:00:00.000001"},
		{`"timestamp"`, `"2024-01-01T00:00:00"`, "2024-01-01T00:00:00"},
		{`"timestamp"`, `"1969-12-31T23:59:59.999999"`, "1969-12-31T23:59:59.999999"},
		{`"timestamptz"`, `"2024-01-01T00:00:00.5+00:00"`, "2024-01-01T00:00:00.5Z"},
		{`"timestamp_ns"`, `"2024-01-01T00:00:00.000000001"`, "2024-01-01T00:00:00.000000001"},
		{`"timestamptz_ns"`, `"2024-01-01T00:00:00.000000001+00:00"`, "2024-01-01T00:00:00.000000001Z"},
		{`"string"`, `"x"`, "x"},
		{`"string"`, `""`, ""},
		{`"string"`, `"12345678901234567890"`, "12345678901234567890"},
		{`"uuid"`, `"f79c3e09-677c-4bbd-a479-3f349cb785e7"`, "f79c3e09-677c-4bbd-a479-3f349cb785e7"},
		{`"fixed[2]"`, `"00ff"`, "AP8="},
		{`"binary"`, `"00ff"`, "AP8="},
		{`"binary"`, `""`, ""},
	} {
		s, stored := schemaOf(t, c.typ, fmt.Sprintf(`, "initial-default": %s, "write-default": %[1]s`, c.value))
		d, err := DefaultsOf(s, stored)
		if err != nil {
			t.Errorf("%s, default %s: %v", c.typ, c.value, err)
			continue
		}
		if initial, write := d.Initial[0], d.Write[0]; initial.ValueStr(0) != c.want || write.ValueStr(0) != c.want || !arrow.TypeEqual(write.DataType(), stored.Field(0).Type) {
			t.Errorf("%s, default %s: %v and %v of type %v, want %s", c.typ, c.value, initial.ValueStr(0), write.ValueStr(0), write.DataType(), c.want)
		}
	}
	s, stored := schemaOf(t, `"int"`, `, "initial-default": null`)
	if d, err := DefaultsOf(s, stored); err != nil || d.Initial[0] != nil || d.Write[0] != nil {
		t.Errorf("without a default value: %v, %v, want nil", d, err)
	}
}

// TestInvalidDefaults checks that default values that are not exact, of another type or nested are errors that name
// the column.
func TestInvalidDefaults(t *testing.T) {
	for typ, values := range map[string][]string{
		`"long"`:         {`9223372036854775807`, `9007199254740993`, `-9007199254740992`, `-9223372036854775808`, `1.5`, `1e300`, `true`, `[1]`, `{}`},
		`"int"`:          {`2147483648`, `1.5`},
		`"boolean"`:      {`7`, `"x"`},
		`"float"`:        {`1e300`, `"x"`},
		`"date"`:         {`"2024-13-01"`, `"x"`},
		`"time"`:         {`"25:00:00"`},
		`"timestamp"`:    {`"2024-01-01 25:00"`},
		`"decimal(4,2)"`: {`"1000.00"`, `"1.255"`, `"x"`},
		`"uuid"`:         {`"f79c"`},
		`"fixed[2]"`:     {`"00"`, `"0g"`},
		`"binary"`:       {`"0"`, `7`},
		`"string"`:       {`7`},
		`{"type": "struct", "fields": [{"id": 2, "name": "n", "required": false, "type": "int", "initial-default": 7}]}`:                                                                        {``},
		`{"type": "list", "element-id": 2, "element-required": false, "element": {"type": "struct", "fields": [{"id": 3, "name": "n", "required": false, "type": "int", "write-default": 7}]}}`: {``},
	} {
		for _, value := range values {
			for _, name := range []string{"initial-default", "write-default"} {
				defaults := ""
				if value != "" {
					defaults = fmt.Sprintf(`, %q: %s`, name, value)
				}
				s, stored := schemaOf(t, typ, defaults)
				if d, err := DefaultsOf(s, stored); err == nil || !strings.Contains(err.Error(), `"c"`) {
					t.Errorf("%s, %s %s: %v, error %v, want one that names the column", typ, name, value, d, err)
				}
			}
		}
	}
}
