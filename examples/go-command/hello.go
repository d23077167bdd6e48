// A program that knows nothing of the host: it answers the line that it reads with "Hello NAME!".
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
)

func main() {
	log.SetFlags(0) // the host's log has the time
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		log.Fatal(err)
	}
	name := strings.TrimSpace(line)
	if name == "" {
		name = "world"
	}
	if _, err := fmt.Printf("Hello %s!\n", name); err != nil {
		log.Fatal(err)
	}
}
