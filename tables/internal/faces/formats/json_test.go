package formats

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestInvalidJSON checks that invalid JSON is refused with the errors of encoding/json.
func TestInvalidJSON(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	signs := []string{"{", "}", "[", "]", ",", ":", `"`, `\`, " ", "\n", "1", "-", "0", ".", "e", "null", "true", "fals", `"a"`, "1:2,", `"\u12aé"`, "\x00", "\x7f", "\ufeff"}
	validTexts := 0
	for range 100_000 {
		text := []byte(`{"a": [1, {"b": "x\n"}, [], {}], "c": -1.5e3, "d": null}`)
		if r.IntN(2) == 0 {
			text = []byte(`[[], 0, "é", true]`)
		}
		for range r.IntN(3) {
			offset := r.IntN(len(text))
			text = append(append(bytes.Clone(text[:offset]), signs[r.IntN(len(signs))]...), text[offset+r.IntN(2):]...)
		}
		var unused json.RawMessage
		wantErr := json.Unmarshal(text, &unused)
		err := readJSON(text, func(j *jsonReader) error { return newColumn("").inferValue(j, 1) })
		if wantErr == nil {
			validTexts++
		}
		if wantErr != nil && (err == nil || err.Error() != wantErr.Error()) || wantErr == nil && err != nil && err != errNotUTF8 {
			t.Fatalf("seed %d: readJSON(%q) = %v, want %v", seed, text, err, wantErr)
		}
	}
	if validTexts < 25_000 || validTexts > 90_000 {
		t.Errorf("%d of 100,000 random texts were valid JSON, want a mixture", validTexts)
	}
}

// TestLargeIntegersOfJSON checks that integers beyond int64 stay exact, or are refused, at every depth and in whatever
// chunks they are.
func TestLargeIntegersOfJSON(t *testing.T) {
	const mixedNumbers, digits38 = "without losing digits of an integer", "99999999999999999999999999999999999999"
	defer func(n int) { chunkBytes = n }(chunkBytes)
	for values, want := range map[string]string{
		"18446744073709551615 18446744073709551614": `decimal(38, 0)`,
		"9223372036854775807 18446744073709551616":  `decimal(38, 0)`,
		"-9223372036854775809 5 null":               `decimal(38, 0)`,
		digits38 + " -" + digits38:                  `decimal(38, 0)`,
		"1 " + digits38 + "0":                       mixedNumbers,
		"9007199254740993 1.5":                      mixedNumbers,
		"1.5 18446744073709551615":                  mixedNumbers,
		"123456789012345680000 1e5":                 mixedNumbers, // the digits of a float, but not its exact value
		`"NaN" 9007199254740993`:                    mixedNumbers,
		"9007199254740994 1.5":                      `float64`,
		"18446744073709551616 1.5":                  `float64`,
		"-0 7":                                      `float64`,
		"7 true":                                    "the values have several types",
		`"x" 18446744073709551616`:                  "the values have several types",
	} {
		for _, form := range []string{`{"a":?}`, `{"a":[?]}`, `{"a":[[?]]}`, `{"a":{"b":[{"c":?}]}}`} {
			var text strings.Builder
			for _, v := range strings.Fields(values) {
				text.WriteString(strings.Replace(form, "?", v, 1) + "\n")
			}
			for _, chunkBytes = range []int{1 << 20, 16} {
				got, err := content(t, fileOf(t, "x.jsonl", text.String()))
				switch {
				case err != nil:
					where := `x.jsonl: column "a": ` + map[bool]string{true: `field "b": field "c": `}[strings.Contains(form, "c")] + "up to line 2, "
					if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), where) {
						t.Errorf("%s:\ngot error %v, want %s…%s", &text, err, where, want)
					}
				case !strings.Contains(got, want):
					t.Errorf("%s:\ngot %s, want %s", &text, got, want)
				case strings.HasPrefix(want, "decimal"): // decimals are written in quotes
					if _, rows, _ := strings.Cut(got, "\n"); strings.ReplaceAll(rows, `"`, "") != strings.ReplaceAll(text.String(), `"`, "") {
						t.Errorf("read %s, want %s", rows, &text)
					}
				}
			}
		}
	}
}
