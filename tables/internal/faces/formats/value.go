package formats

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// adder parses values and adds them to a column or a nested field. It rejects values that the type cannot represent
// exactly.
type adder struct {
	array.Builder
	nullable bool

	// parses and adds a value; returns false if the type cannot represent it; nil for nested types
	addText      func([]byte) bool
	bareKind     byte // kind of JSON value, besides strings, that the type accepts; 0 means none
	acceptsEmpty bool // an empty string is a value, rather than null

	fields *fields // adds the fields of structs and map entries; nil for other types
	elem   *adder  // adds the elements of lists; nil for other types
}

func newAdder(b array.Builder, f arrow.Field) *adder {
	a := &adder{Builder: b, nullable: f.Nullable}
	t := arrowtype.Of(f.Type)
	if e, ok := b.(interface{ StorageBuilder() array.Builder }); ok {
		if t.Kind == arrowtype.UUID {
			a.addText = fixedBytesParser(e.StorageBuilder(), func(s []byte) ([]byte, error) {
				id, err := uuid.ParseBytes(s)
				if len(s) != len(id.String()) { // Reject UUIDs in braces or without hyphens.
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
	switch t.Kind {
	case arrowtype.Struct:
		a.fields = newFields("field", arrowtype.Fields(f.Type), b.(*array.StructBuilder).FieldBuilder)
	case arrowtype.Map:
		b, parts := b.(*array.MapBuilder), slices.Clone(arrowtype.Fields(f.Type))
		parts[0].Name, parts[1].Name = "key", "value" // entries have these names, whatever the map's type calls them
		a.fields = newFields("part", parts, func(i int) array.Builder { return []array.Builder{b.KeyBuilder(), b.ItemBuilder()}[i] })
	case arrowtype.List:
		a.elem = newAdder(b.(array.ListLikeBuilder).ValueBuilder(), f.Type.(arrow.ListLikeType).ElemField())
	default:
		a.setTextParser(t, f.Type)
	}
	return a
}

// setTextParser sets addText and bareKind for type t.
func (a *adder) setTextParser(typeInfo *arrowtype.Row, t arrow.DataType) {
	a.addText = func([]byte) bool { return false } // the null type, or a type that tables do not support
	switch typeInfo.Kind {
	case arrowtype.Bool:
		a.addText, a.bareKind = parser(typeInfo.IntAppender(a.Builder), parseBool), jsonBool
	case arrowtype.Integer, arrowtype.Duration:
		a.addText, a.bareKind = parser(typeInfo.IntAppender(a.Builder), integerParser(typeInfo, t)), jsonNumber
	case arrowtype.Date, arrowtype.Time, arrowtype.Timestamp:
		a.addText = parser(typeInfo.IntAppender(a.Builder), timeParser(typeInfo, t))
	case arrowtype.Float:
		parse := parseFloat16
		if t.ID() != arrow.FLOAT16 {
			parse = func(s []byte) (float64, bool) { return parseFloat(s, t.(arrow.FixedWidthDataType).BitWidth()) }
		}
		a.addText, a.bareKind = parser(typeInfo.FloatAppender(a.Builder), parse), jsonNumber
	case arrowtype.Decimal:
		if typeInfo.DecimalAppender != nil {
			a.addText, a.bareKind = parser(typeInfo.DecimalAppender(a.Builder), decimalParser(t.(arrow.DecimalType))), jsonNumber
		}
	case arrowtype.Text:
		a.addText, a.acceptsEmpty = parser(typeInfo.BytesAppender(a.Builder), func(s []byte) ([]byte, bool) { return s, true }), true
	case arrowtype.Binary:
		decode := func(s []byte) ([]byte, error) { return base64.StdEncoding.Strict().AppendDecode(nil, s) }
		if t.ID() == arrow.FIXED_SIZE_BINARY {
			a.addText = fixedBytesParser(a.Builder, decode)
			return
		}
		a.addText, a.acceptsEmpty = parser(typeInfo.BytesAppender(a.Builder), func(s []byte) ([]byte, bool) {
			v, err := decode(s)
			return v, err == nil
		}), true
	}
}

// parser returns a function that parses its argument and adds the value. It returns false if the argument is invalid.
func parser[V any](add func(V), parse func([]byte) (V, bool)) func([]byte) bool {
	return func(s []byte) bool {
		v, ok := parse(s)
		if ok {
			add(v)
		}
		return ok
	}
}

// fixedBytesParser returns a function that decodes a string and adds the result if it has the type's length.
func fixedBytesParser(b array.Builder, decode func([]byte) ([]byte, error)) func([]byte) bool {
	size := b.Type().(*arrow.FixedSizeBinaryType).ByteWidth
	return parser(b.(*array.FixedSizeBinaryBuilder).Append, func(s []byte) ([]byte, bool) {
		v, err := decode(s)
		return v, err == nil && len(v) == size
	})
}

// add parses and adds a string. An empty string becomes null, unless it was quoted and the type accepts empty strings.
func (a *adder) add(text []byte, quoted bool) error {
	switch {
	case len(text) == 0 && !(quoted && a.acceptsEmpty):
		a.AppendNull()
		return nil
	case a.addText == nil:
		return readJSON(text, a.addJSON)
	case !a.addText(text):
		return a.invalidError(text)
	}
	return nil
}

func (a *adder) invalidError(text []byte) error {
	hint := ""
	switch t := a.Type(); arrowtype.KindOf(t) {
	case arrowtype.Timestamp:
		hint = ": use a format such as 2026-01-31T23:59:59"
		if t.(*arrow.TimestampType).TimeZone != "" {
			hint += "Z or 2026-01-31T23:59:59+01:00"
		}
	case arrowtype.Date:
		hint = ": use a format such as 2026-01-31"
	case arrowtype.Bool:
		hint = ": use true or false"
	}
	return fmt.Errorf("%.60q is not a valid %s%s", text, a.Type(), hint)
}

func (a *adder) addJSON(j *jsonReader) error {
	kind, text, err := j.value()
	if err != nil {
		return err
	}
	list, isList := a.Builder.(array.ListLikeBuilder)
	wantKind := byte(jsonString)
	switch {
	case kind == jsonNull && !a.nullable:
		return errors.New("null is not allowed")
	case kind == jsonNull:
		a.AppendNull()
		return nil
	case isList:
		wantKind = jsonArray
	case a.fields != nil:
		wantKind = jsonObject
	case kind == a.bareKind:
		wantKind = a.bareKind
	}
	if kind != wantKind {
		return fmt.Errorf("%s is not a valid %s", strings.TrimSpace(jsonKinds[kind]+" "+string(text[:min(len(text), 60)])), a.Type())
	}
	switch {
	case isList:
		list.Append(true)
		return a.addList(j)
	case a.fields != nil:
		a.Builder.(*array.StructBuilder).Append(true)
		return a.fields.addJSON(j)
	case !a.addText(text):
		return a.invalidError(text)
	}
	return nil
}

// addList adds the elements of a JSON array, or the entries of a map.
func (a *adder) addList(j *jsonReader) (err error) {
	n := 0
	for ; j.more(']'); n++ {
		if a.elem != nil {
			err = a.elem.addJSON(j)
		} else if kind, _, e := j.value(); e != nil || kind != jsonObject {
			err = errors.Join(e, errors.New(`a map entry must have the form {"key": …, "value": …}`))
		} else {
			err = a.fields.addJSON(j)
		}
		if err != nil {
			return err
		}
	}
	if t, ok := a.Type().(*arrow.FixedSizeListType); ok && n != int(t.Len()) {
		return fmt.Errorf("a list of %d values is not a valid %s", n, t)
	}
	return nil
}

// fields adds JSON objects as rows of a table or as values of a struct.
type fields struct {
	term    string // the word for a field in errors, such as "column"
	names   []string
	adders  []*adder
	seen    []bool
	indices map[string]int
}

func newFields(term string, arrowFields []arrow.Field, builder func(int) array.Builder) *fields {
	f := &fields{term: term, seen: make([]bool, len(arrowFields)), indices: map[string]int{}}
	for i, field := range arrowFields {
		f.names, f.adders = append(f.names, field.Name), append(f.adders, newAdder(builder(i), field))
		f.indices[field.Name] = i
	}
	return f
}

// find returns the index of the field with the given name, or -1. n is the member's index in its object, which is
// usually also the field's index.
func (f *fields) find(name []byte, n int) int {
	if n < len(f.names) && f.names[n] == string(name) {
		return n
	}
	if i, ok := f.indices[string(name)]; ok {
		return i
	}
	return -1
}

// addJSON adds the members of a JSON object, and a null for each field that the object lacks.
func (f *fields) addJSON(j *jsonReader) error {
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
			return fmt.Errorf("unknown %s %.60q: the names are %.300q", f.term, name, f.names)
		}
		if f.seen[i] {
			return fmt.Errorf("%s %q appears twice", f.term, f.names[i])
		}
		f.seen[i] = true
		if err := f.adders[i].addJSON(j); err != nil {
			return fmt.Errorf("%s %q: %w", f.term, f.names[i], err)
		}
	}
	for i, seen := range f.seen {
		if !seen && !f.adders[i].nullable {
			return fmt.Errorf("%s %q is missing, but must not be null", f.term, f.names[i])
		}
		if !seen {
			f.adders[i].AppendNull()
		}
	}
	return nil
}
