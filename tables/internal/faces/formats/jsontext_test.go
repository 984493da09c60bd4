package formats

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
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
