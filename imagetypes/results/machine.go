package results

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// maxSettings bounds the settings of a machine, in bytes.
const maxSettings = 1 << 20

// renames returns what puts the names of the bundle in the place of those of the results: the settings of a machine name its disk, and a guest of Xen's its kernel.
// What a bundle compresses is named as it is called when it is unpacked.
func renames(plan []bundled) *strings.Replacer {
	names := map[string]string{}
	for _, b := range plan {
		names[filepath.Base(b.Path)] = b.name
	}
	var old []string
	for name := range names {
		old = append(old, name)
	}
	// The longer of two names that begin alike comes first.
	slices.SortFunc(old, func(a, b string) int { return strings.Compare(b, a) })
	var pairs []string
	for _, name := range old {
		pairs = append(pairs, name, names[name])
	}
	return strings.NewReplacer(pairs...)
}

// writeSettings copies the settings of a machine with the names of the bundle in them.
func (o *BundleOptions) writeSettings(out io.Writer, in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, maxSettings+1))
	if err != nil {
		return err
	}
	if len(text) > maxSettings {
		return fmt.Errorf("the settings of a machine have more than %d bytes", maxSettings)
	}
	_, err = o.renames.WriteString(out, string(text))
	return err
}
