package pyvalue

// Texts makes strings of bytes. Short ones that come again and again, as the
// keys of many dicts do, are made once.
type Texts struct {
	few *[64]any
}

// NewTexts returns a Texts for a value that is read from n bytes.
func NewTexts(n int) Texts {
	if n < 1<<10 {
		return Texts{} // not worth the table
	}
	return Texts{new([64]any)}
}

// Of returns a string, as an interface, which would otherwise cost a second
// allocation. isNew reports whether it was not returned before.
func (t Texts) Of(b []byte) (text any, isNew bool) {
	if t.few == nil || len(b) == 0 || len(b) > 32 {
		return string(b), true
	}
	slot := &t.few[(uint(len(b))*31+uint(b[0])*7+uint(b[len(b)/2])*5+uint(b[len(b)-1]))%64]
	if s, ok := (*slot).(string); ok && s == string(b) {
		return *slot, false
	}
	text = string(b)
	*slot = text
	return text, true
}
