package parted

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// input describes a checked Input.
type input struct {
	name   string
	schema *arrow.Schema // schema of the rows in parts
	by     []int         // indices of the key columns
}

// Check returns the error with which Each would reject the inputs: a key column is missing, the keys of the inputs are
// not comparable, or the options are invalid.
func Check(inputs []Input, o *Options) error {
	_, err := checkInputs(inputs, o)
	return err
}

// checkInputs checks the inputs and returns their descriptions.
func checkInputs(inputs []Input, o *Options) ([]input, error) {
	if o.Parts < 0 || o.Parts > maxParts {
		return nil, fmt.Errorf("%d parts: use a number from 1 to %d", o.Parts, maxParts)
	}
	if len(inputs) == 0 {
		return nil, errors.New("there are no inputs")
	}
	checked := make([]input, len(inputs))
	var firstClasses []string // classes of the first input's key columns; see sorted.SQLKeyClass
	for i, in := range inputs {
		checked[i] = input{name: in.Name, schema: plainSchema(in.Rows.Schema())}
		if len(in.By) == 0 {
			return nil, checked[i].wrap(errors.New("no key columns are named"))
		}
		if len(in.By) != len(inputs[0].By) {
			return nil, checked[i].wrap(fmt.Errorf("the key has %d columns %q, but that of input %q has %d: %q", len(in.By), in.By, inputs[0].Name, len(inputs[0].By), inputs[0].By))
		}
		for k, name := range in.By {
			column, err := schema.ColumnIndex(in.Rows.Schema(), name)
			if err != nil {
				return nil, checked[i].wrap(err)
			}
			t := in.Rows.Schema().Field(column).Type
			class, err := sorted.SQLKeyClass(t)
			if err != nil {
				return nil, checked[i].wrap(fmt.Errorf("column %q of type %s: %w", name, t, err))
			}
			if i == 0 {
				firstClasses = append(firstClasses, class)
			}
			if class != firstClasses[k] {
				return nil, checked[i].wrap(fmt.Errorf("column %q of type %s cannot be compared with column %q of input %q, which is of class %s", name, t, inputs[0].By[k], inputs[0].Name, firstClasses[k]))
			}
			checked[i].by = append(checked[i].by, column)
		}
	}
	return checked, nil
}

func (in *input) wrap(err error) error { return fmt.Errorf("input %q: %w", in.name, err) }

// firstKey returns the text of the first row's key, such as "a=1, b=2". It returns "" if there are no rows.
func (in *input) firstKey(rows batches.Seq) (string, error) {
	const maxText = 100 // bytes
	for b, err := range rows {
		if err != nil {
			return "", err
		}
		defer b.Release()
		texts := make([]string, len(in.by))
		for i, c := range in.by {
			text := b.Column(c).ValueStr(0)
			if len(text) > maxText {
				text = strings.ToValidUTF8(text[:maxText], "") + "…"
			}
			texts[i] = b.ColumnName(c) + "=" + text
		}
		return strings.Join(texts, ", "), nil
	}
	return "", nil
}

// plainSchema replaces dictionaries and runs by the types of their values, and views by plain text or binary types.
// Otherwise, each piece would contain a whole dictionary, or all bytes to which the views of a block point.
func plainSchema(s *arrow.Schema) *arrow.Schema {
	metadata := s.Metadata()
	return arrow.NewSchema(schema.MapTypes(schema.WithoutEncodings(s).Fields(), func(t arrow.DataType) arrow.DataType {
		if _, isView := t.(arrow.BinaryViewDataType); isView {
			return arrowtype.Of(t).Plain
		}
		return t
	}), &metadata)
}

// KeyAppender returns a function that appends the key of a row's value. Keys must not be prefixes of other keys.
type KeyAppender func(a arrow.Array) func(key []byte, row int) ([]byte, error)

// NumberRows calls number once for adjacent rows with equal keys, with the key and the index of the first of these rows.
// It returns the result for each row. The key is valid until number returns.
func NumberRows(b arrow.RecordBatch, columns []int, appender KeyAppender, number func(key []byte, row int) int) (_ []int, err error) {
	appends := make([]func(key []byte, row int) ([]byte, error), len(columns))
	for i, c := range columns {
		appends[i] = appender(b.Column(c))
	}
	var key, last []byte
	numbers := make([]int, b.NumRows())
	for row := range numbers {
		key = key[:0]
		for _, f := range appends {
			key, err = f(key, row)
			if err != nil {
				return nil, err
			}
		}
		if row > 0 && bytes.Equal(key, last) {
			numbers[row] = numbers[row-1]
			continue
		}
		numbers[row] = number(key, row)
		key, last = last, key
	}
	return numbers, nil
}

// Group consists of the rows of a block that have the same number.
type Group struct {
	Number int
	Rows   []int // indices of the rows, in order
}

// GroupRows returns the groups of rows with equal numbers, sorted by number. All numbers must be in [0, n).
func GroupRows(numbers []int, n int) (groups []Group) {
	ends := make([]int, n+1)
	for _, number := range numbers {
		ends[number+1]++
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	order := make([]int, len(numbers))
	starts := ends[:n]
	for row, number := range numbers {
		order[starts[number]] = row
		starts[number]++ // after the loop, this is the end of the group
	}
	start := 0
	for number, end := range starts {
		if end > start {
			groups = append(groups, Group{number, order[start:end:end]})
		}
		start = end
	}
	return groups
}
