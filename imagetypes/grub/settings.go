package grub

import (
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
)

// Settings returns the settings of grub.cfg that come from a description.
func Settings(title string, t *description.Type) Config {
	b := &t.Bootloader
	c := Config{Title: title, Timeout: 10, Style: b.TimeoutStyle, Serial: b.SerialLine, GfxMode: t.GfxMode()}
	if b.HasTimeout {
		c.Timeout = b.Timeout
	}
	if c.Serial == "" {
		c.Serial = defaultSerial
	}
	// KIWI takes the first word for output and the others for input; all for both shows the menu wherever somebody may look for it.
	c.Output = terminals(b.Console)
	if len(c.Output) == 0 {
		c.Output = []string{"gfxterm"}
	}
	for _, word := range c.Output {
		if word == "gfxterm" {
			word = "console"
		}
		if !slices.Contains(c.Input, word) {
			c.Input = append(c.Input, word)
		}
	}
	return c
}

// defaultSerial is GRUB's command for the first serial port.
const defaultSerial = "serial --unit=0 --speed=115200 --word=8 --parity=no --stop=1"

// terminals returns GRUB's output terminals for a description's console attribute.
func terminals(console string) []string {
	var list []string
	for _, word := range strings.Fields(console) {
		if word == "none" {
			word = "console"
		}
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}
