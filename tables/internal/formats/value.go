package formats

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/uuid"
)

// adder adds values to a column, or to a nested part of one. It refuses a value that the type
// cannot represent exactly.
type adder struct {
	array.Builder
	nullable bool

	text  func([]byte) bool // adds the value of a text, and returns false if the type cannot hold it; nil for nested types
	bare  byte              // kind of JSON value accepted besides strings; 0 means none
	empty bool              // an empty text is a value, and not null

	fields *fields // for a struct, or a map's entries
	elem   *adder  // for a list
}

func newAdder(b array.Builder, f arrow.Field) *adder {
	a := &adder{Builder: b, nullable: f.Nullable}
	if e, ok := b.(interface{ StorageBuilder() array.Builder }); ok {
		if f.Type.(arrow.ExtensionType).ExtensionName() == "arrow.uuid" {
			a.text = fixedBytes(e.StorageBuilder(), func(s []byte) ([]byte, error) {
				id, err := uuid.ParseBytes(s)
				if len(s) != len(id.String()) { // in braces, or without hyphens
					return nil, err
				}
				return id[:], err
			})
			return a
		}
		b, f.Type = e.StorageBuilder(), f.Type.(arrow.ExtensionType).StorageType()
		a = newAdder(b, f)
		return a
	}
	switch b := b.(type) {
	case *array.StructBuilder:
		a.fields = newFields("field", f.Type.(*arrow.StructType).Fields(), b.FieldBuilder)
	case *array.MapBuilder:
		t := f.Type.(*arrow.MapType)
		key, item := t.KeyField(), t.ItemField()
		key.Name, item.Name = "key", "value" // whatever the map calls them
		a.fields = newFields("part", []arrow.Field{key, item}, func(i int) array.Builder { return []array.Builder{b.KeyBuilder(), b.ItemBuilder()}[i] })
	case array.ListLikeBuilder:
		a.elem = newAdder(b.ValueBuilder(), f.Type.(arrow.ListLikeType).ElemField())
	default:
		a.setText(f.Type)
	}
	return a
}

// setText sets the function that adds the value of a text to the builder.
func (a *adder) setText(t arrow.DataType) {
	a.bare = jsonNumber
	switch b := a.Builder.(type) {
	case *array.BooleanBuilder:
		a.text, a.bare = func(s []byte) bool { return isBool(s) && added(b, s[0]|0x20 == 't', true) }, jsonBool
	case *array.Int8Builder:
		a.text = signed(b)
	case *array.Int16Builder:
		a.text = signed(b)
	case *array.Int32Builder:
		a.text = signed(b)
	case *array.Int64Builder:
		a.text = signed(b)
	case *array.Uint8Builder:
		a.text = unsigned(b)
	case *array.Uint16Builder:
		a.text = unsigned(b)
	case *array.Uint32Builder:
		a.text = unsigned(b)
	case *array.Uint64Builder:
		a.text = unsigned(b)
	case *array.Float16Builder:
		a.text = func(s []byte) bool { v, ok := parseFloat16(s); return added(b, v, ok) }
	case *array.Float32Builder:
		a.text = func(s []byte) bool { v, ok := parseFloat(s, 32); return added(b, float32(v), ok) }
	case *array.Float64Builder:
		a.text = func(s []byte) bool { v, ok := parseFloat(s, 64); return added(b, v, ok) }
	case *array.Decimal32Builder, *array.Decimal64Builder, *array.Decimal128Builder:
		a.text = decimals(b, t.(arrow.DecimalType))
	case *array.DurationBuilder:
		unit := t.(*arrow.DurationType).Unit
		a.text = func(s []byte) bool { v, ok := parseDuration(s, unit); return added(b, arrow.Duration(v), ok) }
	default:
		a.bare = 0
		a.setQuoted(t)
	}
}

// setQuoted is setText for types whose values are JSON strings.
func (a *adder) setQuoted(t arrow.DataType) {
	switch b := a.Builder.(type) {
	case *array.Date32Builder:
		a.text = func(s []byte) bool { v, ok := parseDate32(s); return added(b, v, ok) }
	case *array.Date64Builder:
		a.text = func(s []byte) bool {
			v, ok := parseTimestamp(s, arrow.Millisecond, false)
			return added(b, arrow.Date64(v), ok)
		}
	case *array.Time32Builder:
		unit := t.(*arrow.Time32Type).Unit
		a.text = func(s []byte) bool { v, ok := parseClock(s, unit); return added(b, arrow.Time32(v), ok) }
	case *array.Time64Builder:
		unit := t.(*arrow.Time64Type).Unit
		a.text = func(s []byte) bool { v, ok := parseClock(s, unit); return added(b, arrow.Time64(v), ok) }
	case *array.TimestampBuilder:
		t := t.(*arrow.TimestampType)
		a.text = func(s []byte) bool {
			v, ok := parseTimestamp(s, t.Unit, t.TimeZone != "")
			return added(b, arrow.Timestamp(v), ok)
		}
	case *array.FixedSizeBinaryBuilder:
		a.text = fixedBytes(b, func(s []byte) ([]byte, error) { return base64.StdEncoding.Strict().AppendDecode(nil, s) })
	case interface{ Append([]byte) }: // all layouts of bytes, including text
		a.empty = true
		a.text = func(s []byte) bool {
			v, err := base64.StdEncoding.Strict().AppendDecode(nil, s)
			return added(b, v, err == nil)
		}
	case *array.StringBuilder:
		a.text, a.empty = func(s []byte) bool { return added(b.BinaryBuilder, s, true) }, true
	case array.StringLikeBuilder:
		a.text, a.empty = func(s []byte) bool { return added(b, string(s), true) }, true
	default: // type null, or a type that no table has
		a.text = func([]byte) bool { return false }
	}
}

// added adds v if ok, and returns ok.
func added[V any](b interface{ Append(V) }, v V, ok bool) bool {
	if ok {
		b.Append(v)
	}
	return ok
}

// fixedBytes returns a function that decodes a text, and adds the bytes if they have the type's
// length.
func fixedBytes(b array.Builder, decode func([]byte) ([]byte, error)) func([]byte) bool {
	size := b.Type().(*arrow.FixedSizeBinaryType).ByteWidth
	return func(s []byte) bool {
		v, err := decode(s)
		return added(b.(*array.FixedSizeBinaryBuilder), v, err == nil && len(v) == size)
	}
}

// add adds the value of a text. An empty text becomes null, unless it was quoted and the
// type has empty texts.
func (a *adder) add(text []byte, quoted bool) error {
	switch {
	case len(text) == 0 && !(quoted && a.empty):
		a.AppendNull()
		return nil
	case a.text == nil:
		return readJSON(text, a.addJSON)
	case !a.text(text):
		return a.refuse(text)
	}
	return nil
}

func (a *adder) refuse(text []byte) error {
	hint := ""
	switch t := a.Type().(type) {
	case *arrow.TimestampType:
		if hint = ", as 2026-01-31T23:59:59"; t.TimeZone != "" {
			hint += "Z or 2026-01-31T23:59:59+01:00"
		}
	case *arrow.Date32Type:
		hint = ", as 2026-01-31"
	case *arrow.BooleanType:
		hint = ", which is true or false"
	}
	return fmt.Errorf("%.60q is no %s%s", text, a.Type(), hint)
}

// addJSON adds the next JSON value.
func (a *adder) addJSON(j *jsonText) error {
	kind, text, err := j.value()
	if err != nil {
		return err
	}
	list, isList := a.Builder.(array.ListLikeBuilder)
	wants := byte(jsonString)
	switch {
	case kind == jsonNull && !a.nullable:
		return errors.New("a null, of which there may be none")
	case kind == jsonNull:
		a.AppendNull()
		return nil
	case isList:
		wants = jsonArray
	case a.fields != nil:
		wants = jsonObject
	case kind == a.bare:
		wants = a.bare
	}
	if kind != wants {
		return fmt.Errorf("%s is no %s", strings.TrimSpace(jsonKinds[kind]+" "+string(text[:min(len(text), 60)])), a.Type())
	}
	switch {
	case isList:
		list.Append(true)
		return a.addList(j)
	case a.fields != nil:
		a.Builder.(*array.StructBuilder).Append(true)
		return a.fields.addJSON(j)
	case !a.text(text):
		return a.refuse(text)
	}
	return nil
}

// addList adds the elements of an array, or the entries of a map.
func (a *adder) addList(j *jsonText) (err error) {
	n := 0
	for ; j.more(']'); n++ {
		if a.elem != nil {
			err = a.elem.addJSON(j)
		} else if kind, _, e := j.value(); e != nil || kind != jsonObject {
			err = errors.Join(e, errors.New(`an entry of a map is no {"key": …, "value": …}`))
		} else {
			err = a.fields.addJSON(j)
		}
		if err != nil {
			return err
		}
	}
	if t, ok := a.Type().(*arrow.FixedSizeListType); ok && n != int(t.Len()) {
		return fmt.Errorf("a list of %d is no %s", n, t)
	}
	return nil
}

// fields adds JSON objects to the columns of a table or a struct.
type fields struct {
	what  string // term for the fields in errors
	names []string
	parts []*adder
	seen  []bool
	at    map[string]int
}

func newFields(what string, all []arrow.Field, builder func(int) array.Builder) *fields {
	f := &fields{what: what, seen: make([]bool, len(all)), at: map[string]int{}}
	for i, field := range all {
		f.names, f.parts = append(f.names, field.Name), append(f.parts, newAdder(builder(i), field))
		f.at[field.Name] = i
	}
	return f
}

// find returns the index of the field with a name, or -1. n is the member's index in its object,
// which is usually the same.
func (f *fields) find(name []byte, n int) int {
	if n < len(f.names) && f.names[n] == string(name) {
		return n
	}
	if i, ok := f.at[string(name)]; ok {
		return i
	}
	return -1
}

// addJSON adds the members of an object, and nulls for those it lacks.
func (f *fields) addJSON(j *jsonText) error {
	clear(f.seen)
	for n := 0; ; n++ {
		name, more, err := j.member()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		i := f.find(name, n)
		if i < 0 {
			return fmt.Errorf("there is no %s %.60q, only %.300q", f.what, name, f.names)
		}
		if f.seen[i] {
			return fmt.Errorf("%s %q is there twice", f.what, f.names[i])
		}
		f.seen[i] = true
		if err := f.parts[i].addJSON(j); err != nil {
			return fmt.Errorf("%s %q: %w", f.what, f.names[i], err)
		}
	}
	for i, seen := range f.seen {
		if !seen && !f.parts[i].nullable {
			return fmt.Errorf("%s %q is missing, and may not be null", f.what, f.names[i])
		}
		if !seen {
			f.parts[i].AppendNull()
		}
	}
	return nil
}
