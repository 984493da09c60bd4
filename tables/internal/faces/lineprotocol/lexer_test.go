package lineprotocol

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLexerRules compares random points with what the lexer reads after they were written by the rules of InfluxDB's
// documentation: a backslash escapes comma, equals sign and space in names, comma and space in measurements, double
// quote and backslash in strings, and stands for itself before any other character.
func TestLexerRules(t *testing.T) {
	const alphabet = `abntr0"\,= #é` + "\u2028"
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	random := func(alphabet string, minLength int) string {
		letters, text := []rune(alphabet), ""
		for range minLength + r.IntN(6) {
			text += string(letters[r.IntN(len(letters))])
		}
		return text
	}
	name := func() string { return strings.TrimRight(random(alphabet, 1), `\`) + "x" } // cannot end in a backslash
	escape := func(text, escaped string) (b string) {
		for _, c := range text {
			if strings.ContainsRune(escaped, c) {
				b += `\`
			}
			b += string(c)
		}
		return b
	}
	quote := func(text string) string {
		b, letters := "", []rune(text)
		for i, c := range letters {
			isLone := c == '\\' && i+1 < len(letters) && !strings.ContainsRune(`\"`, letters[i+1]) && r.IntN(2) == 0
			if strings.ContainsRune(`\"`, c) && !isLone {
				b += `\`
			}
			b += string(c)
		}
		return `"` + b + `"`
	}
	for range 20_000 {
		measurement := "m" + name()
		var tags, fields []string
		line := escape(measurement, ", ")
		for range r.IntN(3) {
			k, v := name(), name()
			tags = append(tags, k, v)
			line += "," + escape(k, ",= ") + "=" + escape(v, ",= ")
		}
		for i := range 1 + r.IntN(3) {
			k, text, want := name(), "", ""
			switch r.IntN(5) {
			case 0:
				s := random(alphabet+"\n\r\t", 0)
				text, want = quote(s), fmt.Sprintf("string %q", s)
			case 1:
				f := r.NormFloat64() * float64(int64(1)<<r.IntN(60))
				text, want = strconv.FormatFloat(f, "gef"[r.IntN(3)], -1, 64), fmt.Sprint("float ", f)
			case 2:
				n := int64(r.Uint64())
				text, want = fmt.Sprintf("%di", n), fmt.Sprint("int ", n)
			case 3:
				n := r.Uint64()
				text, want = fmt.Sprintf("%du", n), fmt.Sprint("uint ", n)
			case 4:
				b := r.IntN(2) == 0
				text, want = strconv.FormatBool(b), fmt.Sprint("bool ", b)
			}
			fields = append(fields, k, want)
			line += " ,"[min(i, 1):][:1] + escape(k, ",= ") + "=" + text
		}
		timestamp := strconv.Itoa(r.IntN(1000) - 500)
		before := strings.Repeat("\n# \\comment\"\r\n \n", r.IntN(2))
		l := &lexer{body: []byte(before + line + " " + timestamp + "\r\n" + line)}
		want := fmt.Sprintf("%q %q %q %q at line %d", measurement, tags, fields, timestamp, 1+strings.Count(before, "\n"))
		got, err := readPoint(l)
		if err != nil || got != want {
			t.Fatalf("seed %d, line %q: got\n%s, %v, want\n%s", seed, line, got, err, want)
		}
		if got, err := readPoint(l); err != nil || !strings.Contains(got, fmt.Sprintf(`%q "" at line`, fields)) || l.next() {
			t.Fatalf("seed %d, line %q without timestamp and end of line: got %s, %v", seed, line, got, err)
		}
	}
}

func readPoint(l *lexer) (string, error) {
	l.next()
	start := l.pos
	m, err := l.measurement()
	var tags, fields []string
	for err == nil {
		var k, v []byte
		k, v, err = l.tag()
		if k == nil {
			break
		}
		tags = append(tags, string(k), string(v))
	}
	for isLast := false; err == nil && !isLast; {
		var k []byte
		var v value
		k, v, isLast, err = l.field()
		text := map[kind]any{kindString: fmt.Sprintf("%q", v.text), kindFloat: v.float, kindInt: v.integer, kindUint: v.uint, kindBool: v.bool}[v.kind]
		fields = append(fields, string(k), fmt.Sprint(v.kind, " ", text))
	}
	if err != nil {
		return "", err
	}
	timestamp, err := l.timestamp()
	return fmt.Sprintf("%q %q %q %q at line %d", m, tags, fields, timestamp, l.lineOf(start)), err
}

// TestLexerRefused checks values and lines that look right to other parsers.
func TestLexerRefused(t *testing.T) {
	for _, body := range []string{
		"m v=1_0", "m v=0x1p4", "m v=inf", "m v=-Infinity", "m v=nan", "m v=NaN", "m v=+1", "m v=+1i", "m v=1_0i", "m v=0x1i", "m v=1e", "m v=e5", "m v=.", "m v=-", "m v=1.5i", "m v=-1u",
		"m v=1iu", "m v=i", "m v=tRue", "m v=", "m v=\"a\"b 1", "m v=1 1_0", "m v=1 +1", "m v=1 1 1", "m v=1 1\rn v=1", "m v=1, w=2", "m,a v=1", "m, v=1", "m,a= v=1", "m,a=b", "m", "m,a=b ", ",a=b v=1",
		"m v", "m v=9223372036854775808i", "m v=18446744073709551616u", "m v=1e999", "m v=1 9223372036854775807", "m v=1 -9223372036854775807", "m\tv=1", "m,a=b\x00 v=1", "m,a=\"x y\" v=1", `m v="x\"`,
	} {
		if p, err := Parse([]byte(body), "", time.Now(), func(int64) error { return nil }); err == nil {
			t.Errorf("%q: got measurements %q, want an error", body, p.Names())
		}
	}
}
