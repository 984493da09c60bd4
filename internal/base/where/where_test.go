package where

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestParts(t *testing.T) {
	for _, c := range [][3]string{ // part, value, want
		{`before(p, '/')`, "a/b/c", "a"},
		{`before(p, "/", 2)`, "a/b/c", "a/b"},
		{`before(p, '/', 3)`, "a/b/c", "a/b/c"},
		{`before(p, '/', -1)`, "a/b/c", "a/b"},
		{`before(p, '/', -3)`, "a/b/c", "a/b/c"},
		{`after(p, '/')`, "a/b/c", "b/c"},
		{`after(p, '/', -1)`, "a/b/c", "c"},
		{`after(p, '/', -1)`, "abc", ""},
		{`after(p, '/', 3)`, "a/b/c", ""},
		{`before(p, '::')`, "a:::b", "a"},
		{`before(p, '::', -1)`, "a:::b", "a:"},
		{`before(p, '::', 2)`, "a:::b", "a:::b"},
		{`before(p, '::', 2)`, "a::::b", "a::"},
		{`after(p, '::', -2)`, "a:::b", ""},
		{`after( "p q" ,'::')`, "a:::b", ":b"},
		{`prefix(3, 2)`, "äöü", "äö"},
		{`prefix(-1, 2)`, "\xff\xfe\xfd", "\xff\xfe"},
		{`prefix(p, 9)`, "abc", "abc"},
		{`day(t)`, "2026-01-31T10:00:00Z", "2026-01-31"},
		{`day(t)`, "2024-02-29", "2024-02-29"},
		{`month(t)`, "2026-01-31 10:00", "2026-01"},
		{`day(t)`, "2026-01-31 10:00:00.123+01:00", "2026-01-31"},
		{`day(t)`, "", ""},
		{`before(after(p, '/'), '.')`, "x/y.go", "y"},
		{`month(prefix(after(p, '['), 10))`, "h [2026-01-31]", "2026-01"},
		{`lower(p)`, "ÀB Straße İ Ⱥ\xffZ", "àb straße i ⱥ\xffz"},
		{`nfc(p)`, "Cafe\u0301 \ufb01 \xff", "Café \ufb01 \xff"},
		{`nfc(lower(before(p, '/')))`, "E\u0301/E", "é"},
		{`before(lower(p), 'a', -1)`, "xAyAz", "xay"},
		{`prefix(lower(nfc(p)), 1)`, "E\u0301a", "é"},
		{`lower(prefix(lower(p), 3))`, "ⱯⱯⱯⱯ", "ɐɐɐ"},
		{`lower(day(t))`, "2026-01-31T10:00:00Z", "2026-01-31"},
	} {
		p, rest, err := ParsePart(c[0] + ":n,x")
		if err != nil || p.Text != c[0] || rest != ":n,x" {
			t.Fatalf("ParsePart(%s) = %v, %q, %v", c[0], p, rest, err)
		}
		got, err := p.Append([]byte("before "), []byte(c[1]))
		if err != nil || string(got) != "before "+c[2] {
			t.Errorf("%s of %q = %q, %v, want %q", c[0], c[1], got, err, c[2])
		}
		if changes := strings.Contains(c[0], "lower(") || strings.Contains(c[0], "nfc("); p.Changes() != changes {
			t.Errorf("%s: Changes is %t", c[0], !changes)
		} else if changes {
			continue
		}
		if from, to, err := p.Of([]byte(c[1])); err != nil || c[1][from:to] != c[2] {
			t.Errorf("%s of %q is from %d to %d, %v, want %q", c[0], c[1], from, to, err, c[2])
		}
	}
	for _, value := range []string{"x", "2026-02-29", "2026-13-01", "2026-1-31", "2026-01-311", "26-01-31", "2026-01-31junk", "2026-01-31 junk", "2026-01-31T25:00", "2026-11-28+03:44:21.1", "2026-01-31 10:00:00 +0100"} {
		p, _, _ := ParsePart("day(t)")
		_, _, err := p.Of([]byte(value))
		_, appendErr := p.Append(nil, []byte(value))
		if fmt.Sprint(err) != fmt.Sprint(appendErr) || err == nil || !strings.Contains(err.Error(), "day(t) needs a date") {
			t.Errorf("day(t) of %q: errors %v and %v, want one", value, err, appendErr)
		}
	}
	for _, text := range []string{"day", "days(t)", "count", "(day(t))", "sum(day(t))", ""} {
		if p, rest, err := ParsePart(text); p != nil || rest != text || err != nil {
			t.Errorf("ParsePart(%q) = %v, %q, %v, want no part", text, p, rest, err)
		}
	}
}

func TestPartErrors(t *testing.T) {
	for text, want := range map[string]string{
		"day(":             `position 5: expected a column name`,
		"day(t":            `position 6: expected ")": day(column), found the end`,
		"day(t, 1)":        `position 6: expected ")"`,
		"before(p)":        `position 9: expected ",": before(column, 'separator')`,
		"before(p, '')":    `expected a separator in quotes`,
		"before(p, x)":     `expected a separator in quotes`,
		"after(p, 'x', 0)": `expected a whole number`,
		"prefix(p, -1)":    `expected a positive number`,
		"prefix(p, 1.5)":   `expected a whole number`,
		"prefix(p, 1e99)":  `expected a whole number`,
		"prefix(and, 1)":   `expected a column name`,
		"day('t')":         `expected a column name`,
		"day(t;)":          `unexpected ';'`,
		strings.Repeat("day(", 200) + "t" + strings.Repeat(")", 200): `nested more than 100 levels`,
	} {
		if _, _, err := ParsePart(text); err == nil || !strings.Contains(err.Error(), want) || strings.HasPrefix(err.Error(), "filter") {
			t.Errorf("ParsePart(%.40q): error %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"a > 300 & b < 9": "position 9: unexpected '&': write and", "a = 1 || b = 2": "unexpected '|': write or", "!(a = 1)": "unexpected '!': write not",
		"~(a = 1)": "unexpected '~': write not", "a in [1]": "unexpected '[': write (", "`a b` = 1": "unexpected '`': write names in double quotes",
	} {
		must.Fail(t, must.Err(Parse(text)), want, "Parse(%q)", text)
	}
	for _, text := range []string{"day(t) = '2026-01-31'", "1 < before(t, '/')", "t = month(u)"} {
		must.Fail(t, must.Err(Parse(text)), "(…) is possible only in partd's commands on files", "Parse(%q)", text)
	}
	if n, err := Parse("day = 1 and before = day"); err != nil {
		t.Errorf("Parse of columns with names of functions: %v, %v", n, err)
	}
	must.Fail(t, must.Err(Parse(strings.Repeat("not ", 200)+"a = 1")), "100 levels", "Parse of 200 nested nots")
	must.Fail(t, must.Err(Parse("a = '"+strings.Repeat("x", maxText)+"'")), "the limit is", "Parse of a large text")
}

// FuzzParse checks that no text makes the parsers panic, and that an error of a condition is in the text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a > 1 and b in ('x', 'y') or not (c is null)", `"a b" between 1 and 2e3`, "x like 'a%' escape '!'", "1 < x", "((((",
		`before(a, "/", -1):n`, "prefix(day(t), 3)", "lower(nfc(x))", "after(x,'", "month(", "a = '2026-01-31", "x in (", "not", "\xff = \x00",
	} {
		f.Add(s, "a/b 2026-01-31")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if n, err := Parse(text); err == nil {
			n.Columns(nil)
		} else if e := err.(*SyntaxError); e.Offset < 0 || e.Offset > len(text) {
			t.Errorf("Parse(%q): the error is at offset %d", text, e.Offset)
		}
		p, rest, err := ParsePart(text)
		if p == nil || err != nil {
			return
		}
		if p.Text+rest != text {
			t.Errorf("ParsePart(%q) = %q and %q", text, p.Text, rest)
		}
		appended, err := p.Append([]byte("x"), []byte(value))
		if !bytes.HasPrefix(appended, []byte("x")) {
			t.Errorf("%s of %q: %q", p.Text, value, appended)
		}
		if p.Changes() || err != nil {
			return
		}
		if from, to, err := p.Of([]byte(value)); err != nil || value[from:to] != string(appended[1:]) {
			t.Errorf("%s of %q is from %d to %d, %v, but also %q", p.Text, value, from, to, err, appended[1:])
		}
	})
}

// FuzzTimeOf checks that TimeOf and ParseTime accept the same text as package time.
func FuzzTimeOf(f *testing.F) {
	for _, s := range []string{
		"2026-01-31", "2026-01-31 23:59:59", "2024-02-29T00:00:00", "0000-02-29", "1900-02-29", "2026-01-31 24:00:00", "2026-01-31 1:02:03",
		"2026-01-31T10:00:00.5+01:00", "2026-01-31 10:00Z", "0001-01-01", "9999-12-31 23:59:60", "2026-00-10", "2026-01-00", "2026-01-31x00:00:00",
		"2026-01-31 10:00:00,123456789012-23:59", "2026-01-31Z", "2026-01-31+24:60", "2026-01-31 10:00.5", "2026-01-31T1:00:00.Z", "2026-01-31 10:00:00+0100",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := TimeOf([]byte(text))
		at, offset, err := parseTime(text)
		if parsed, hasOffset, parseErr := ParseTime(text); (parseErr == nil) != (err == nil) || err == nil && (hasOffset != offset || !parsed.Equal(at)) {
			t.Errorf("ParseTime(%q) = %v, %t, %v, want %v, %t, %v", text, parsed, hasOffset, parseErr, at, offset, err)
		}
		if ok != (err == nil) || ok && fmt.Sprint(got) != fmt.Sprint(Time{at.Unix(), int64(at.Nanosecond())}) {
			t.Errorf("TimeOf(%q) = %v, %t, want %v, %v", text, got, ok, at, err)
		}
	})
}

// parseTime is ParseTime with package time.
func parseTime(text string) (at time.Time, offset bool, err error) {
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, false, nil
		}
		if at, err = time.Parse(layout+"Z07:00", text); err == nil {
			return at, true, nil
		}
	}
	return at, false, err
}
