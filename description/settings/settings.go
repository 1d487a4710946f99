// Package settings reads KIWI's configuration file, kiwi.yml: settings of a
// person or a machine that hold for every description.
//
// The file maps each section to a list of mappings:
//
//	runtime_checks:
//	  - disable: [check_image_type_unique]
//
// A plain mapping instead of the list is understood too.
package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Settings is what a configuration file says. Its zero value is that of no
// file.
type Settings struct {
	File string // where it was read from; empty: there is no file
	// DisabledChecks are ids of checks that are not made, as Selection.SkipChecks
	// of a description takes them.
	DisabledChecks []string
	OBS            OBS
	// BundleCompress says whether bundles hold their files compressed; nil: not
	// said. PackageChanges is the same for the list of package changes among
	// the results, and ContainerCompress for container archives.
	BundleCompress, PackageChanges, ContainerCompress *bool
	XZOptions                                         []string // arguments for xz
	MaxSize                                           int64    // bytes that an image may have; 0: no bound
	// Warnings are settings that are not known or have no meaning here, one
	// line each with file and line.
	Warnings []string
}

// OBS is an Open Build Service.
type OBS struct {
	DownloadURL string
}

// maxSize bounds a configuration file, in bytes.
const maxSize = 1 << 20

// Load reads the configuration file of the given name; an empty name stands
// for the first of config.yml in the user's directory kiwi of configurations
// (~/.config/kiwi) and /etc/kiwi.yml that exists, and for the zero Settings
// where there is none.
func Load(file string) (*Settings, error) {
	candidates := []string{file}
	if file == "" {
		candidates = defaultFiles()
	}
	for _, candidate := range candidates {
		f, err := os.Open(candidate)
		if file == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
		if err != nil {
			return nil, fmt.Errorf("reading the configuration %s: %w", candidate, err)
		}
		return Parse(candidate, data)
	}
	return &Settings{}, nil
}

func defaultFiles() []string {
	var files []string
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "kiwi", "config.yml"))
	}
	return append(files, "/etc/kiwi.yml")
}

// Parse reads the text of a configuration file; name is for messages.
func Parse(name string, data []byte) (*Settings, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("reading the configuration %s: it is larger than %d bytes", name, maxSize)
	}
	s := &Settings{File: name}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading the configuration %s: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return s, nil // nothing but comments
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("reading the configuration %s: it is not a mapping of sections", name)
	}
	known := s.known()
	for section, value := range pairs(doc.Content[0]) {
		for key, item := range settingsOf(value) {
			set, ok := known[section.Value+"."+key.Value]
			if !ok {
				s.warn(key, "%s of %s is not known and has no effect", key.Value, section.Value)
				continue
			}
			if err := set(item); err != nil {
				return nil, fmt.Errorf("reading the configuration %s:%d: %s of %s: %w", name, item.Line, key.Value, section.Value, err)
			}
		}
	}
	return s, nil
}

// known returns what each setting does.
func (s *Settings) known() map[string]func(*yaml.Node) error {
	unused := func(reason string) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			s.warn(n, "this setting has no effect: %s", reason)
			return nil
		}
	}
	return map[string]func(*yaml.Node) error{
		"credentials.verification_metadata_signing_key_file": unused("imgbuild signs no metadata of verified file systems"),
		"obs.download_url":           text(&s.OBS.DownloadURL),
		"obs.api_url":                unused("imgbuild asks no Open Build Service for anything but packages"),
		"obs.public":                 unused("repositories obs://... are those of the download server; give credentials to a repository that needs them"),
		"obs.user":                   unused("give credentials to the repositories that need them"),
		"bundle.compress":            truth(&s.BundleCompress),
		"bundle.has_package_changes": truth(&s.PackageChanges),
		"container.compress":         s.containerCompress,
		"xz.options":                 s.xzOptions,
		"build_constraints.max_size": s.maxSize,
		"runtime_checks.disable":     s.disable,
		"iso.tool_category":          unused("imgbuild has one way to write an ISO"),
		"oci.archive_tool":           unused("imgbuild writes containers itself"),
		"mapper.part_mapper":         unused("imgbuild maps no partitions"),
	}
}

func (s *Settings) warn(n *yaml.Node, format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf("%s:%d: %s", s.File, n.Line, fmt.Sprintf(format, args...)))
}

// disable reads the checks that are switched off: one, or a list.
func (s *Settings) disable(n *yaml.Node) error {
	list, err := texts(n)
	for _, id := range list {
		s.DisabledChecks = append(s.DisabledChecks, strings.TrimPrefix(id, "check_"))
	}
	return err
}

// containerCompress reads a truth value, or the words xz and none.
func (s *Settings) containerCompress(n *yaml.Node) error {
	yes, no := true, false
	switch n.Value {
	case "xz":
		s.ContainerCompress = &yes
	case "none":
		s.ContainerCompress = &no
	default:
		return truth(&s.ContainerCompress)(n)
	}
	return nil
}

func (s *Settings) xzOptions(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("it is not a text")
	}
	s.XZOptions = strings.Fields(n.Value)
	return nil
}

// maxSize reads a number of bytes, or of MiB with m or GiB with g behind it.
func (s *Settings) maxSize(n *yaml.Node) error {
	digits, unit := strings.ToLower(strings.TrimSpace(n.Value)), int64(1)
	switch {
	case strings.HasSuffix(digits, "g"):
		unit, digits = 1<<30, strings.TrimSuffix(digits, "g")
	case strings.HasSuffix(digits, "m"):
		unit, digits = 1<<20, strings.TrimSuffix(digits, "m")
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size <= 0 || size > (1<<62)/unit {
		return fmt.Errorf("%q is not a size such as 700m or 2g", n.Value)
	}
	s.MaxSize = size * unit
	return nil
}

func text(into *string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode {
			return errors.New("it is not a text")
		}
		*into = n.Value
		return nil
	}
}

func truth(into **bool) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var b bool
		if err := n.Decode(&b); err != nil {
			return fmt.Errorf("%q is neither true nor false", n.Value)
		}
		*into = &b
		return nil
	}
}

// texts reads a text, or a list of texts.
func texts(n *yaml.Node) ([]string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return []string{n.Value}, nil
	case yaml.SequenceNode:
		var list []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("it is not a list of names")
			}
			list = append(list, item.Value)
		}
		return list, nil
	}
	return nil, errors.New("it is neither a name nor a list of names")
}

// pairs goes over the keys and values of a mapping.
func pairs(n *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// settingsOf goes over the settings of a section: those of all mappings of a
// list, or of one mapping.
func settingsOf(n *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		sections := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			sections = n.Content
		}
		for _, section := range sections {
			for key, value := range pairs(section) {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}
