package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
)

// Naming is what the names of a bundle's files are made of, as KIWI keeps it in kiwi.result.json.
type Naming struct {
	Pattern string `json:"pattern"` // the description's bundle_format, "" for none
	Tags    struct {
		Name     string `json:"N"`
		Profiles string `json:"P"` // with _ between
		Arch     string `json:"A"`
		ID       string `json:"I"` // always ""
		Type     string `json:"T"`
		Version  string `json:"v"`
		Major    int    `json:"M"`
		Minor    int    `json:"m"`
		Patch    int    `json:"p"`
	} `json:"tags"`
}

// NamingOf returns the naming of a description's results.
func NamingOf(d *description.Image) *Naming {
	n := &Naming{Pattern: d.Type.BundleFormat}
	n.Tags.Name, n.Tags.Profiles, n.Tags.Arch, n.Tags.Type, n.Tags.Version = d.Name, strings.Join(d.Profiles, "_"), d.Arch, d.Type.Image, d.Version
	numbers := strings.Split(d.Version, ".")
	for i, number := range []*int{&n.Tags.Major, &n.Tags.Minor, &n.Tags.Patch} {
		if i < len(numbers) {
			if v, err := strconv.Atoi(numbers[i]); err == nil { // else 0: a version may be any word
				*number = v
			}
		}
	}
	return n
}

// Result is an entry of kiwi.result.json.
type Result struct {
	Key      string `json:"key"`
	Path     string `json:"path"`     // in the target directory
	Size     int64  `json:"size"`     // bytes
	Compress bool   `json:"compress"` // in a bundle
	Shasum   bool   `json:"shasum"`   // in a bundle
	Bundle   bool   `json:"use_for_bundle"`
}

// List is what a target directory holds.
type List struct {
	Results []Result // sorted by key
	Naming  *Naming  // nil if the list does not say
}

// NoListError says that a directory holds no results.
type NoListError struct{ Dir string }

// Error implements error.
func (e *NoListError) Error() string {
	return fmt.Sprintf("reading the results in %s: there is no %s; give the --target-dir of a build", e.Dir, ListFile)
}

// ReadList reads the list that [Staging.Publish], or KIWI, has written into a target directory. Results are looked for in the directory itself, wherever it was when
// the list was written.
func ReadList(target string) (*List, error) {
	data, err := os.ReadFile(filepath.Join(target, ListFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoListError{target}
	}
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("reading results: %s: %w", filepath.Join(target, ListFile), err)
	}
	list := &List{}
	for key, raw := range entries {
		if key == image.KeyBundleFormat {
			list.Naming = &Naming{}
			if err := json.Unmarshal(raw, list.Naming); err != nil {
				return nil, fmt.Errorf("reading results: %s of %s: %w", key, ListFile, err)
			}
			continue
		}
		var entry listed
		if err := json.Unmarshal(raw, &entry); err != nil {
			return nil, fmt.Errorf("reading results: %s of %s: %w", key, ListFile, err)
		}
		path := filepath.Join(target, filepath.Base(entry.Filename))
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("reading results: %s, which %s lists: %w", key, ListFile, err)
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("reading results: %s, which %s lists, is no file", path, ListFile)
		}
		list.Results = append(list.Results, Result{key, path, info.Size(), entry.Compress, entry.Shasum, entry.UseForBundle})
	}
	slices.SortFunc(list.Results, func(a, b Result) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}
