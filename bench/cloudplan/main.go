// Command cloudplan estimates the requests, seconds and dollars of jobs through a bucket with 10 to 1,000 writers and
// readers. It plans requests with the store's own code, and thus also computes the disk space that each reader needs
// (option disk of the store's URL). It prints docs/cloud-plan.md or, with --model, docs/dev/cloud-model.md, which models
// whole jobs on many machines.
//
//	go run -C bench ./cloudplan > docs/cloud-plan.md
//	go run -C bench ./cloudplan --model > docs/dev/cloud-model.md
package main

import (
	"flag"
	"fmt"
)

func main() {
	model := flag.Bool("model", false, "print docs/dev/cloud-model.md")
	flag.Parse()
	if *model {
		fmt.Print(simulation())
		return
	}
	fmt.Print(cloudPlanPage())
}
