package description

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// conformanceDir returns the corpus of descriptions with KIWI's own results,
// or skips: it is somebody else's work and lies outside of the project.
func conformanceDir(t *testing.T) string {
	t.Helper()
	dir := conformancePath()
	if _, err := os.Stat(filepath.Join(dir, "expected")); err != nil {
		t.Skipf("no conformance corpus at %s; set IMGBUILD_CONFORMANCE", dir)
	}
	return dir
}

// conformancePath is where the corpus lies, if it is there.
func conformancePath() string {
	if dir := os.Getenv("IMGBUILD_CONFORMANCE"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "shared", "conformance")
}

// corpusFile is what the corpus says of one description.
type corpusFile struct {
	Accepted bool
	Input    string
	Cases    []corpusCase
}

type corpusCase struct {
	Profile *string
	Type    *string
	Error   string
	Expect  map[string]any
}

// knownDifferences reads testdata/conformance-differences.txt: the name of an
// input and, after a tab, the reason why it gives another result here.
func knownDifferences(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "conformance-differences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	known := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		input, reason, ok := strings.Cut(line, "\t")
		if !ok || strings.TrimSpace(reason) == "" {
			t.Fatalf("%q has no reason", line)
		}
		known[input] = reason
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return known
}

// TestConformance compares the verdict on each description of the corpus, and
// the resolved values for each of its profiles and types, with KIWI's.
func TestConformance(t *testing.T) {
	dir := conformanceDir(t)
	known := knownDifferences(t)
	files, cases := 0, 0
	err := filepath.WalkDir(filepath.Join(dir, "expected"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".json") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var want corpusFile
		if err := json.Unmarshal(data, &want); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		files++
		cases += len(want.Cases)
		diff := compareFile(filepath.Join(dir, "input", want.Input), want)
		reason, expected := known[want.Input]
		delete(known, want.Input)
		switch {
		case diff != "" && !expected:
			t.Errorf("%s\n%s", want.Input, diff)
		case diff == "" && expected:
			t.Errorf("%s now agrees; remove it from the list of differences (%s)", want.Input, reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for input := range known {
		t.Errorf("%s is in the list of differences and not in the corpus", input)
	}
	t.Logf("%d descriptions, %d cases", files, cases)
}

// compareFile returns how a description differs from what KIWI made of it.
func compareFile(path string, want corpusFile) string {
	doc, err := Load(filepath.Dir(path), LoadOptions{File: filepath.Base(path)})
	switch {
	case err != nil && want.Accepted:
		return "is rejected:\n" + err.Error()
	case err == nil && !want.Accepted:
		return "is accepted"
	case err != nil:
		return ""
	}
	var diffs []string
	for _, c := range want.Cases {
		sel := Selection{Arch: "x86_64", SkipChecks: []string{AllChecks}}
		name := "default"
		if c.Profile != nil {
			sel.Profiles = []string{*c.Profile}
			name = *c.Profile
		}
		if c.Type != nil {
			sel.Type = *c.Type
			name += "/" + *c.Type
		}
		img, err := doc.Resolve(sel)
		switch {
		case err != nil && c.Error == "":
			diffs = append(diffs, fmt.Sprintf("%s: %v", name, err))
		case err == nil && c.Error != "":
			diffs = append(diffs, fmt.Sprintf("%s: no error, want %s", name, c.Error))
		case err == nil:
			if diff := compareCase(img, c.Expect); diff != "" {
				diffs = append(diffs, name+":\n"+diff)
			}
		}
	}
	return strings.Join(diffs, "\n")
}

func compareCase(img *Image, want map[string]any) string {
	got := map[string]any{}
	data, err := json.Marshal(corpusView(img))
	if err != nil {
		return err.Error()
	}
	if err := json.Unmarshal(data, &got); err != nil {
		return err.Error()
	}
	if _, ok := want["vagrant_config_virtualbox_guest_additions"]; !ok {
		delete(got, "vagrant_config_virtualbox_guest_additions")
	}
	return cmp.Diff(want, got)
}

// orNil returns nil for an empty string, which the corpus writes as null.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// corpusView writes an image in the form of the corpus.
func corpusView(img *Image) map[string]any {
	t := &img.Type
	view := map[string]any{
		"bootloader_config_options":           orEmpty(Args(t.Bootloader.ConfigOptions)),
		"bootloader_install_options":          orEmpty(Args(t.Bootloader.InstallOptions)),
		"bootloader_shim_options":             orEmpty(Args(t.Bootloader.ShimOptions)),
		"build_type_bootloader_console":       orNil(t.Bootloader.Console),
		"build_type_bootloader_name":          t.Bootloader.Name,
		"build_type_bootloader_timeout_style": orNil(t.Bootloader.TimeoutStyle),
		"build_type_format_options":           formatOptionsView(t.FormatOptions),
		"derived_from_image_uri":              orNil(strings.Join(t.DerivedFrom, ",")),
		"disk_start_sector":                   t.DiskStartSector,
		"drivers_list":                        orEmpty(img.Drivers),
		"fs_create_option_list":               orEmpty(t.FSCreateOptions),
		"image_version":                       img.Version,
		"initrd_system":                       t.InitrdSystem,
		"luks_format_options":                 orEmpty(Args(t.LUKSFormatOptions)),
		"luks_credentials":                    t.LUKS,
		"oemconfig_oem_multipath_scan":        t.OEM.MultipathScan.Or(false),
		"oemconfig_oem_resize":                t.OEM.Resize.Or(true),
		"oemconfig_oem_systemsize":            t.OEM.SystemSize,
		"oemconfig_swap_name":                 t.OEM.SwapName,
		"package_manager":                     img.PackageManager,
		"profile_variables":                   img.ProfileVariables(),
		"profiles":                            orEmpty(img.Profiles),
		"rpm_check_signatures":                img.RPM.CheckSignatures,
		"rpm_excludedocs":                     img.RPM.ExcludeDocs,
		"strip_files_to_delete":               orEmpty(img.Strip.Delete),
		"strip_libraries_to_keep":             orEmpty(img.Strip.Libs),
		"strip_tools_to_keep":                 orEmpty(img.Strip.Tools),
		"type":                                t.Image,
		"volume_group_name":                   t.VolumeGroup,
		"volume_management":                   orNil(t.VolumeManagement),
		"is_xen_guest":                        t.XenGuest(),
		"is_xen_server":                       nil,
		"locale":                              nil,
		"release_version":                     []string{},
		"rpm_locale":                          nil,
		"fs_mount_option_list":                []string{},
		"build_type_bootloader_timeout":       nil,
		"build_type_spare_part_size":          nil,
		"oemconfig_swap_mbytes":               nil,
		"build_type_vmconfig_entries":         []string{},
		"installmedia_initrd_modules": map[string]any{
			"add": orEmpty(t.InstallMedia.Add), "omit": orEmpty(t.InstallMedia.Omit), "set": orEmpty(t.InstallMedia.Set),
		},
		"packages_to_remove": map[string]any{
			"delete": Names(img.Packages.Delete), "uninstall": Names(img.Packages.Uninstall),
		},
		"partitions":       partitionsView(t.Partitions),
		"volumes":          volumesView(t.Volumes),
		"users":            usersView(img.Users),
		"repositories":     repositoriesView(img.Repositories),
		"container_config": containerView(t.Container),
	}
	optionalViews(img, view)
	sizeView(t, view)
	packagesView(img, view)
	return view
}

func optionalViews(img *Image, view map[string]any) {
	t := &img.Type
	if t.XenServer {
		view["is_xen_server"] = true
	}
	if len(img.Locales) > 0 {
		view["locale"] = img.Locales
	}
	if img.ReleaseVersion != "" {
		view["release_version"] = img.ReleaseVersion
	}
	if t.FSMountOptions != "" {
		view["fs_mount_option_list"] = []string{t.FSMountOptions}
	}
	if t.Bootloader.HasTimeout {
		view["build_type_bootloader_timeout"] = t.Bootloader.Timeout
	}
	if t.SparePart > 0 {
		view["build_type_spare_part_size"] = t.SparePart
	}
	if t.OEM.Swap {
		view["oemconfig_swap_mbytes"] = t.OEM.SwapSize
	}
	if t.Machine != nil {
		view["build_type_vmconfig_entries"] = orEmpty(t.Machine.ConfigEntries)
	}
	if len(t.Vagrant) > 0 {
		view["vagrant_config_virtualbox_guest_additions"] = t.Vagrant[0].GuestAdditionsPresent
	}
}

func formatOptionsView(options []NameValue) map[string]any {
	view := map[string]any{}
	for _, o := range options {
		view[o.Name] = nil
		if o.HasValue {
			view[o.Name] = o.Value
		}
	}
	return view
}

// sizeView takes what belongs to no partition off the size, as KIWI does, but
// in the right unit.
func sizeView(t *Type, view map[string]any) {
	view["build_type_size"], view["build_type_unpartitioned_bytes"] = nil, 0
	if t.Size == nil {
		return
	}
	size := map[string]any{"mbytes": t.Size.MB - t.Size.Unpartitioned>>20, "additive": nil}
	if t.Size.Has("additive") {
		size["additive"] = t.Size.Additive
	}
	view["build_type_size"], view["build_type_unpartitioned_bytes"] = size, t.Size.Unpartitioned
}

func packagesView(img *Image, view map[string]any) {
	p := &img.Packages
	archives := func(list []Archive) []string {
		names := []string{}
		for _, a := range list {
			names = append(names, a.Name)
		}
		return names
	}
	view["bootstrap_archives"] = archives(p.Bootstrap.Archives)
	view["bootstrap_collection_type"] = p.Bootstrap.PatternType
	view["bootstrap_collections"] = Names(p.Bootstrap.Collections)
	view["bootstrap_packages"] = Names(p.Bootstrap.Packages)
	view["bootstrap_products"] = Names(p.Bootstrap.Products)
	view["collection_type"] = p.System.PatternType
	view["system_archives"] = archives(p.System.Archives)
	view["system_collections"] = Names(p.System.Collections)
	view["system_ignore_packages"] = Names(p.System.Ignore)
	view["system_packages"] = Names(p.System.Packages)
	view["system_products"] = Names(p.System.Products)
	enable, disable := []string{}, []string{}
	for _, m := range p.Modules {
		name := m.Name
		if m.Stream != "" {
			name += ":" + m.Stream
		}
		if m.Enable {
			enable = append(enable, name)
		} else {
			disable = append(disable, name)
		}
	}
	view["collection_modules"] = map[string]any{"enable": enable, "disable": disable}
}

func partitionsView(list []Partition) map[string]any {
	view := map[string]any{}
	for _, p := range list {
		view[p.Name] = map[string]any{
			"clone": p.Clone, "filesystem": orNil(p.Filesystem), "mbsize": p.Size, "mountpoint": orNil(p.Mountpoint),
			"partition_name": p.Label, "partition_type": p.Type,
		}
	}
	return view
}

func volumesView(list []Volume) []any {
	view := []any{}
	for _, v := range list {
		attributes := []string{}
		if v.NoCOW {
			attributes = append(attributes, "no-copy-on-write")
		}
		if v.FSCheck {
			attributes = append(attributes, "enable-for-filesystem-check")
		}
		var size any
		if !v.FullSize {
			size = fmt.Sprintf("%s:%d", v.SizeType, v.Size)
		}
		view = append(view, map[string]any{
			"attributes": attributes, "fullsize": v.FullSize, "is_root_volume": v.Root, "label": orNil(v.Label),
			"mountpoint": orNil(v.Mountpoint), "name": v.Name, "parent": v.Parent, "realpath": v.RealPath, "size": size,
		})
	}
	return view
}

func usersView(users []User) []any {
	view := []any{}
	for _, u := range users {
		groups := []string{}
		for _, g := range u.Groups {
			if g.GID >= 0 {
				groups = append(groups, fmt.Sprintf("%s:%d", g.Name, g.GID))
				continue
			}
			groups = append(groups, g.Name)
		}
		var id, format any
		if u.UID >= 0 {
			id = u.UID
		}
		if u.Has("pwdformat") {
			format = map[bool]string{true: "plain", false: "encrypted"}[u.Plain]
		}
		view = append(view, map[string]any{
			"groups": groups, "home": orNil(u.Home), "id": id, "name": u.Name, "password": u.Password,
			"password_format": format, "realname": orNil(u.RealName), "shell": orNil(u.Shell),
		})
	}
	return view
}

func repositoriesView(list []Repository) []any {
	view := []any{}
	flag := func(r Repository, name string, value bool) any {
		if r.Has(name) {
			return value
		}
		return nil
	}
	for _, r := range list {
		keys := []string{}
		for _, k := range r.SigningKeys {
			keys = append(keys, k.URI)
		}
		var priority any
		if r.Has("priority") {
			priority = r.Priority
		}
		view = append(view, map[string]any{
			"alias": orNil(r.Alias), "components": orNil(strings.Join(r.Components, " ")), "distribution": orNil(r.Distribution),
			"imageinclude": flag(r, "imageinclude", r.ImageInclude), "imageonly": flag(r, "imageonly", r.ImageOnly),
			"package_gpgcheck":    flag(r, "package_gpgcheck", r.PackageGPGCheck.Or(false)),
			"repository_gpgcheck": flag(r, "repository_gpgcheck", r.RepoGPGCheck.Or(false)),
			"priority":            priority, "signing_keys": keys, "source": r.Source, "type": orNil(r.Type),
		})
	}
	return view
}

func containerView(c *ContainerConfig) map[string]any {
	view := map[string]any{"maintainer": c.Maintainer}
	history := map[string]any{"author": c.History.Author}
	for name, value := range map[string]string{
		"created_by": c.History.CreatedBy, "comment": c.History.Comment, "application_id": c.History.ApplicationID,
		"package_version": c.History.PackageVersion, "launcher": c.History.Launcher,
	} {
		if value != "" {
			history[name] = value
		}
	}
	view["history"] = history
	for name, value := range map[string]string{"container_name": c.Name, "container_tag": c.Tag, "user": c.User, "workingdir": c.WorkingDir} {
		if value != "" {
			view[name] = value
		}
	}
	for name, value := range map[string][]string{
		"additional_names": c.AdditionalNames, "entry_command": c.Entrypoint, "entry_subcommand": c.Command,
		"expose_ports": c.Expose, "volumes": c.Volumes,
	} {
		if value != nil {
			view[name] = value
		}
	}
	for name, list := range map[string][]NameValue{"environment": c.Env, "labels": c.Labels} {
		if len(list) > 0 {
			pairs := map[string]any{}
			for _, p := range list {
				pairs[p.Name] = p.Value
			}
			view[name] = pairs
		}
	}
	return view
}
