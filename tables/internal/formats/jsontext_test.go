package formats

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// TestNoJSON checks that invalid JSON is refused with the errors of encoding/json.
func TestNoJSON(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	signs := []string{"{", "}", "[", "]", ",", ":", `"`, `\`, " ", "\n", "1", "-", "0", ".", "e", "null", "true", "fals", `"a"`, "1:2,", `"\u12aé"`, "\x00", "\x7f", "\ufeff"}
	good := 0
	for range 100_000 {
		text := []byte(`{"a": [1, {"b": "x\n"}, [], {}], "c": -1.5e3, "d": null}`)
		if r.IntN(2) == 0 {
			text = []byte(`[[], 0, "é", true]`)
		}
		for range r.IntN(3) {
			at := r.IntN(len(text))
			text = append(append(bytes.Clone(text[:at]), signs[r.IntN(len(signs))]...), text[at+r.IntN(2):]...)
		}
		var none json.RawMessage
		wrong := json.Unmarshal(text, &none)
		err := readJSON(text, func(j *jsonText) error { return newColumn("").inferValue(j, 1) })
		if wrong == nil {
			good++
		}
		if wrong != nil && (err == nil || err.Error() != wrong.Error()) || wrong == nil && err != nil && err != errNotUTF8 {
			t.Fatalf("seed %d: %q: %v, want %v", seed, text, err, wrong)
		}
	}
	if good < 25_000 || good > 90_000 {
		t.Errorf("%d of 100,000 texts are JSON", good)
	}
}
