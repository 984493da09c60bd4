package formats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// lines are the rows of a chunk: the lines that are not empty.
type lines struct {
	in   *Input
	rest []byte
	line int64 // the last one that was read
}

// next returns the next line, and io.EOF behind the last one.
func (l *lines) next() ([]byte, error) {
	for len(l.rest) > 0 {
		line, rest, _ := bytes.Cut(l.rest, []byte("\n"))
		l.rest = rest
		l.line++
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
	return nil, io.EOF
}

func (l *lines) add(to *fields) (int, error) {
	text, err := l.next()
	if err == nil {
		err = l.object(text, to.addJSON)
	}
	return len(text), err
}

var errNoObject = errors.New("a line must be a JSON object, as in {\"price\":1.5}")

// object reads the object of a line, by a function that reads its members.
func (l *lines) object(line []byte, read func(*jsonText) error) error {
	err := errNoObject
	if line[0] == '{' {
		err = readJSON(line, func(j *jsonText) error {
			j.take('{')
			j.opened = true
			return read(j)
		})
	}
	if err != nil {
		return fmt.Errorf("%s, line %d: %w", l.in.Name, l.line, err)
	}
	return nil
}

func (l *lines) see(root *column) error {
	for {
		text, err := l.next()
		if err == io.EOF {
			return nil
		}
		if err := l.object(text, func(j *jsonText) error { return root.seeObject(j, 0) }); err != nil {
			return err
		}
	}
}

const maxJSONDepth = 100

// seeJSON reads a value, and notes what it is.
func (c *column) seeJSON(j *jsonText, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("values more than %d deep in each other", maxJSONDepth)
	}
	kind, text, err := j.value()
	if err != nil {
		return err
	}
	switch kind {
	case jsonBool:
		c.see(kindBool)
	case jsonNumber:
		if k := kindsOfNumber(text); k != 0 {
			c.see(k)
		} else {
			c.see(kindFloat)
		}
	case jsonString:
		k := kindText
		if isNoNumber(text) { // as JSON has no such numbers
			k |= kindFloat
		} else if len(text) > 0 {
			of, nanos := kindsOfText(text)
			k |= of & (kindDate | kindTime | kindZoned)
			c.nanos = c.nanos || nanos
		}
		c.see(k)
	case jsonArray:
		c.see(kindList)
		if c.elem == nil {
			c.elem = newColumn(c.name)
		}
		for j.more(']') {
			if err := c.elem.seeJSON(j, depth+1); err != nil {
				return err
			}
		}
	case jsonObject:
		c.see(kindObject)
		return c.seeObject(j, depth)
	}
	return nil
}

func (c *column) seeObject(j *jsonText, depth int) error {
	for n := 0; ; n++ {
		name, more, err := j.member()
		if !more || err != nil {
			return err
		}
		if len(bytes.TrimSpace(name)) == 0 && depth == 0 {
			return fmt.Errorf("%q is no name of a column", name)
		}
		f, err := c.field(name, n)
		if err == nil {
			err = f.seeJSON(j, depth+1)
		}
		if err != nil && depth == 0 && f != nil {
			return fmt.Errorf("column %q: %w", f.name, err)
		}
		if err != nil {
			return err
		}
	}
}
