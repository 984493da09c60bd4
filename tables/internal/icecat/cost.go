package icecat

import "fmt"

const (
	// CostPerByte is the memory for decoding and encoding metadata, for each byte of its JSON.
	CostPerByte = 6

	costPerValue = 64        // in addition, because a short value may become a large struct
	maxValues    = 1 << 20   // of a text
	maxPasses    = 192 << 20 // bytes that the decoder may read, counted once for each level around them
)

// DecodedCost returns the memory for decoding a JSON text from a client, which may have many short
// values. It returns an error if the text has too many values or levels. The decoder cannot be
// interrupted, and reads a schema again for each of its levels, whatever the innermost one contains.
func DecodedCost(b []byte) (int64, error) {
	level, text := int64(1), false
	var passes, values int64
	for i := 0; i < len(b); i++ {
		passes += level
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			level++
			values++
		case c == ',':
			values++
		case c == '}' || c == ']':
			level--
		}
	}
	if values > maxValues {
		return 0, fmt.Errorf("has more than %d values", maxValues)
	}
	if passes > maxPasses {
		return 0, fmt.Errorf("has too many nested levels for its %d bytes", len(b))
	}
	return max(CostPerByte*int64(len(b)), passes) + costPerValue*values, nil
}
