package frame_test

import (
	"fmt"

	"github.com/go-partd/partd/frame"
)

func Example() {
	var value []byte
	value = frame.Append(value, []byte("Hello"))
	value = frame.Append(value, []byte("World"))
	for content, err := range frame.Split(value) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s\n", content)
	}
	// Output:
	// Hello
	// World
}
