// Command cloudplan estimates the requests, seconds and dollars of jobs through a bucket with 10 to 1,000 writers and
// readers. It uses the code that divides a store's work into requests, so the result includes the disk that each reader
// needs (option disk of the store's URL). It prints docs/cloud-plan.md.
//
//	go run -C bench ./cloudplan > docs/cloud-plan.md
package main

import "fmt"

func main() {
	fmt.Print(page())
}
