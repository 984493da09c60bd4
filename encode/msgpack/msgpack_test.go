package msgpack

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-partd/partd/encode"
)

// TestStoredBytesDoNotChange checks that values are encoded as in earlier versions, because stores may contain data
// of these versions.
func TestStoredBytesDoNotChange(t *testing.T) {
	type row struct {
		Name string `json:"name"`
		Age  int    `codec:"a"`
		When time.Time
		Data []byte
		More map[string]any
	}
	c := Codec[[]row]()
	data, err := c.Encode(nil, []row{{"Ada", -36, time.Unix(1, 0).UTC(), []byte("x"), map[string]any{"b": 1.5, "a": uint8(200)}}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "9185a444617461c40178a44d6f726582a161ccc8a162cb3ff8000000000000a45768656ed6ff00000001a161d0dca46e616d65a3416461"
	if got := fmt.Sprintf("%x", data); got != want {
		t.Errorf("Encode = %s, want %s", got, want)
	}
	decoded, err := c.Decode(data)
	if err != nil || len(decoded) != 1 || decoded[0].Name != "Ada" || decoded[0].Age != -36 || !decoded[0].When.Equal(time.Unix(1, 0)) || string(decoded[0].Data) != "x" {
		t.Errorf("Decode = %+v, %v, want the encoded row", decoded, err)
	}
}

// TestErrors checks that lengths beyond the end of the data, and joining structs, are errors.
func TestErrors(t *testing.T) {
	for _, data := range []string{"\xdd\xff\xff\xff\xff", "\x91\xdb\xff\xff\xff\xff", "\x91\xc6\xff\xff\xff\xff", ""} {
		if v, err := Codec[[]string]().Decode([]byte(data)); err == nil {
			t.Errorf("Decode(%x) = %q, want an error", data, v)
		}
	}
	if _, err := Codec[struct{ A int }]().Join(make([]struct{ A int }, 2)); !errors.Is(err, encode.ErrNoJoin) {
		t.Errorf("Join of two structs = %v, want ErrNoJoin", err)
	}
}
