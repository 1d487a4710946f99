package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

// listed is an entry of kiwi.result.json, as KIWI writes it, with the image type where there are several.
type listed struct {
	Filename     string `json:"filename"`
	Compress     bool   `json:"compress"`
	Shasum       bool   `json:"shasum"`
	UseForBundle bool   `json:"use_for_bundle"`
	Type         string `json:"image_type,omitempty"`
}

// list is the content of kiwi.result.json. Where several image types have something under the same key, the type follows the key.
func (s *Staging) list(parts []Part, files []staged) map[string]any {
	list, makers, types := map[string]any{}, map[string]map[string]bool{}, 0
	for _, f := range files {
		if makers[f.Key] == nil {
			makers[f.Key] = map[string]bool{}
		}
		makers[f.Key][f.kind] = true
	}
	for _, p := range parts {
		if p.Naming != nil {
			types++
		}
	}
	for _, p := range parts {
		switch {
		case p.Naming != nil && types > 1:
			list[image.KeyBundleFormat+"."+p.Type] = p.Naming
		case p.Naming != nil:
			list[image.KeyBundleFormat] = p.Naming
		}
	}
	for _, f := range files {
		key, entry := f.Key, listed{Filename: filepath.Join(s.target, f.name), Compress: f.Compress, Shasum: hasSum(f.Key), UseForBundle: f.UseForBundle}
		if key == "" {
			continue
		}
		if len(makers[key]) > 1 {
			key += "." + f.kind
		}
		if types > 1 {
			entry.Type = f.kind
		}
		list[key] = entry
	}
	return list
}

// hasSum reports whether a file of a bundle has a check sum beside it: as in KIWI, images do, and what is text does not.
func hasSum(key string) bool { return !isList(key) && key != image.KeyMachineSettings }

// Result is an entry of kiwi.result.json.
type Result struct {
	Key      string `json:"key"`
	Type     string `json:"type,omitempty"` // the image type, where there are several; "" for what they share
	Path     string `json:"path"`           // in the target directory
	Size     int64  `json:"size"`           // bytes
	Compress bool   `json:"compress"`       // in a bundle
	Shasum   bool   `json:"shasum"`         // in a bundle
	Bundle   bool   `json:"use_for_bundle"`
}

// List is what a target directory holds.
type List struct {
	Results []Result // sorted by key
	// Namings are for the results of each image type, by its name; "" is for results without one. Nothing is there if the list does not say.
	Namings map[string]*Naming
}

// naming is that of a result, nil if the list does not say.
func (l *List) naming(r Result) *Naming {
	if n := l.Namings[r.Type]; n != nil || r.Type != "" {
		return n
	}
	for _, name := range slices.Sorted(maps.Keys(l.Namings)) { // the types that share it have one name and version
		return l.Namings[name]
	}
	return nil
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
	list := &List{Namings: map[string]*Naming{}}
	for key, raw := range entries {
		if rest, ok := strings.CutPrefix(key, image.KeyBundleFormat); ok {
			naming := &Naming{}
			if err := json.Unmarshal(raw, naming); err != nil {
				return nil, fmt.Errorf("reading results: %s of %s: %w", key, ListFile, err)
			}
			list.Namings[strings.TrimPrefix(rest, ".")] = naming
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
		list.Results = append(list.Results, Result{key, entry.Type, path, info.Size(), entry.Compress, entry.Shasum, entry.UseForBundle})
	}
	slices.SortFunc(list.Results, func(a, b Result) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}
