package where

import (
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// TestNormalizeLongSequences checks that no U+034F is inserted into sequences of more than 30 combining marks. The
// results equal those of Python's unicodedata.
func TestNormalizeLongSequences(t *testing.T) {
	acute := strings.Repeat("\u0301", 40)
	for text, want := range map[string]string{
		"q" + acute:                              "q" + acute,
		"e" + acute:                              "é" + acute[2:],
		acute:                                    acute,
		"e\u034f" + acute:                        "e\u034f" + acute,
		"a" + acute + "\u0323":                   "ạ" + acute,                           // the dot below is sorted before the acutes
		"u\u0308\u0304" + acute + "\u1112\u1161": "ǖ" + acute + "하",                     // Hangul after it is composed
		"\u00e9" + acute + "\u0327\xff\u0301":    "ȩ" + "\u0301" + acute + "\xff\u0301", // é is decomposed, because the cedilla comes first
		"\u0344" + acute + "\u212b":              "\u0308\u0301" + acute + "Å",
	} {
		if got := string(normalize([]byte(text))); got != want {
			t.Errorf("normalize(%+q) = %+q, want %+q", text, got, want)
		}
		if again := string(normalize([]byte(want))); again != want {
			t.Errorf("normalize(%+q) = %+q, want no change", want, again)
		}
	}
}

// TestComposeLikeNorm compares compose and decompose with package norm, on random texts with short sequences of marks.
func TestComposeLikeNorm(t *testing.T) {
	alphabet := []rune("aeqüéǖạÅ\u0301\u0308\u0304\u0323\u0327\u0344\u034f\u0345\u1112\u1161\u11a8하각\u0b47\u0b56\u0dd9\u0dca\u0dcf\u212b\ufb1d\u0340\u2adc\U0001d15e가")
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		runes := make([]rune, r.IntN(12))
		for i := range runes {
			runes[i] = alphabet[r.IntN(len(alphabet))]
		}
		text := string(runes)
		if r.IntN(4) == 0 {
			text += "\xff\xe2\x82" + text
		}
		if got, want := string(compose(decompose([]byte(text)))), norm.NFC.String(text); got != want {
			t.Fatalf("compose(decompose(%+q)) = %+q, want %+q", text, got, want)
		}
	}
}
