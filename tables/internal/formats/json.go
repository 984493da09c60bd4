package formats

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// lines reads lines that are not empty, and counts all.
type lines struct {
	*bufio.Scanner
	in   *Input
	line int
}

func (in *Input) newLines(r io.Reader) (records, error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxRecord)
	return &lines{Scanner: s, in: in}, nil
}

// next returns the next line, and io.EOF behind the last one.
func (l *lines) next() ([]byte, error) {
	for l.Scan() {
		l.line++
		if text := bytes.TrimSpace(l.Bytes()); len(text) > 0 {
			return text, nil
		}
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", l.in.Name, l.line+1, err)
	}
	return nil, io.EOF
}

func (l *lines) add(b *array.RecordBuilder) (int, error) {
	text, err := l.next()
	if err != nil {
		return 0, err
	}
	if err := b.UnmarshalJSON(text); err != nil {
		return 0, fmt.Errorf("%s, line %d: %w", l.in.Name, l.line, err)
	}
	return len(text), nil
}

func (l *lines) schema(ctx context.Context) (*arrow.Schema, error) {
	root := newColumn("")
	for {
		text, err := l.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if text[0] != '{' {
			err = errors.New("a line must be a JSON object, as in {\"price\":1.5}")
		} else if err = root.seeJSON(d, 0); err == nil && d.InputOffset() != int64(len(text)) {
			err = errors.New("something follows the object")
		}
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", l.in.Name, l.line, err)
		}
		if l.line%batchRows == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if len(root.fields) == 0 {
		return nil, fmt.Errorf("%s: there is no object with a column in it", l.in.Name)
	}
	schema, err := schemaOf(root.fields, l.in.Known)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.in.Name, err)
	}
	return schema, nil
}

const maxJSONDepth = 100

// seeJSON reads a value, and notes what it is.
func (c *column) seeJSON(d *json.Decoder, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("values more than %d deep in each other", maxJSONDepth)
	}
	t, err := d.Token()
	if err != nil {
		return unexpectedEnd(err)
	}
	switch v := t.(type) {
	case bool:
		c.see(kindBool)
	case json.Number:
		if k := kindsOfNumber(v.String()); k != 0 {
			c.see(k)
		} else {
			c.see(kindFloat)
		}
	case string:
		k := kindText
		if strings.TrimLeft(v, "+-") == "Inf" || v == "NaN" { // as JSON has no such numbers
			k |= kindFloat
		} else if v != "" {
			of, nanos := kindsOfText(v)
			k |= of & (kindDate | kindTime | kindZoned)
			c.nanos = c.nanos || nanos
		}
		c.see(k)
	case json.Delim:
		if v == '[' {
			c.see(kindList)
			if c.elem == nil {
				c.elem = newColumn(c.name)
			}
			for d.More() {
				if err := c.elem.seeJSON(d, depth+1); err != nil {
					return err
				}
			}
		} else {
			c.see(kindObject)
			if err := c.seeObject(d, depth); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return unexpectedEnd(err)
	}
	return nil
}

func (c *column) seeObject(d *json.Decoder, depth int) error {
	for at := 0; d.More(); at++ {
		key, err := d.Token()
		if err != nil {
			return unexpectedEnd(err)
		}
		name, ok := key.(string)
		if !ok || strings.TrimSpace(name) == "" && depth == 0 {
			return fmt.Errorf("%v is no name of a column", key)
		}
		f, err := c.field(name, at)
		if err == nil {
			err = f.seeJSON(d, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func unexpectedEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
