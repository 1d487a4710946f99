package description

import (
	"cmp"
	"sort"
	"strconv"
	"strings"
)

// image reads everything that counts for the selection.
func (r *resolver) image() (*Image, error) {
	root := r.doc.root
	img := &Image{
		Origin:        origin(root),
		SchemaVersion: r.doc.Written,
		Arch:          r.arch,
		Profiles:      r.profiles,
		Dir:           r.doc.Dir,
		FS:            r.doc.FS,
		File:          r.doc.File,
	}
	img.Name = r.doc.Name()
	img.ID, _ = root.attr("id")
	img.DisplayName, _ = root.attr("displayname")
	if img.DisplayName == "" {
		img.DisplayName = img.Name
	}
	r.identity(img)
	r.preferences(img)
	typ, err := r.imageType(img)
	if err != nil {
		return nil, err
	}
	img.Type = *typ
	for _, read := range []func(*Image) error{r.users, r.repositories, r.packages, r.innerContainers} {
		if err := read(img); err != nil {
			return nil, err
		}
	}
	r.initrdLists(img)
	return img, nil
}

// identity reads <description>.
func (r *resolver) identity(img *Image) {
	d := r.doc.root.child("description")
	if d == nil {
		return
	}
	img.Kind, _ = d.attr("type")
	img.Kind = collapse(img.Kind)
	for name, into := range map[string]*string{
		"author": &img.Author, "contact": &img.Contact, "specification": &img.Specification, "license": &img.License,
	} {
		if c := d.child(name); c != nil {
			*into = strings.TrimSpace(c.text())
			img.attrs[name] = c.pos
		}
	}
}

// preferences merges the sections that count. A section of a profile is more
// special than one without, and the last one of either kind wins, except that
// the first version and the first package manager of all count, as in KIWI.
func (r *resolver) preferences(img *Image) {
	sections := r.sections("preferences")
	sort.SliceStable(sections, func(i, j int) bool { return !hasProfiles(sections[i]) && hasProfiles(sections[j]) })
	first := func(name string) string {
		for _, p := range r.sections("preferences") {
			if c := p.child(name); c != nil {
				img.attrs[name] = c.pos
				return collapse(c.text())
			}
		}
		return ""
	}
	last := func(name string) string {
		value := ""
		for _, p := range sections {
			if c := p.child(name); c != nil {
				img.attrs[name] = c.pos
				value = collapse(c.text())
			}
		}
		return value
	}
	img.firstPreferences = map[string]string{}
	if len(sections) > 0 {
		for _, c := range r.sections("preferences")[0].elements("") {
			if _, twice := img.firstPreferences[c.name]; !twice {
				img.firstPreferences[c.name] = collapse(c.text())
			}
		}
	}
	img.Version = first("version")
	img.PackageManager = first("packagemanager")
	if img.PackageManager == "" {
		img.PackageManager = "dnf4"
	}
	img.ReleaseVersion = first("release-version")
	img.Locales = splitCommas(last("locale"))
	img.Keytable = last("keytable")
	img.Timezone = last("timezone")
	img.BootsplashTheme = last("bootsplash-theme")
	img.BootloaderTheme = last("bootloader-theme")
	img.RPM.LocaleFiltering, _ = parseBool(first("rpm-locale-filtering"))
	img.RPM.ExcludeDocs, _ = parseBool(first("rpm-excludedocs"))
	img.RPM.CheckSignatures, _ = parseBool(first("rpm-check-signatures"))
	for _, p := range sections {
		for _, c := range p.elements("showlicense") {
			img.ShowLicense = append(img.ShowLicense, strings.TrimSpace(c.text()))
		}
	}
}

func hasProfiles(e *element) bool {
	list, _ := e.attr("profiles")
	return len(splitCommas(list)) > 0
}

// users reads the accounts. The first definition of a name counts; later ones
// add their groups to it.
func (r *resolver) users(img *Image) error {
	var all groupSet
	own := map[string]*groupSet{}
	for _, section := range r.sections("users") {
		for _, e := range section.elements("user") {
			u := User{UID: -1} // stays where no id is given
			if err := decode(e, userRule, &u); err != nil {
				return err
			}
			if format, _ := e.attr("pwdformat"); collapse(format) == "plain" {
				u.Plain = true
			}
			if own[u.Name] == nil {
				own[u.Name] = &groupSet{}
				img.Users = append(img.Users, u)
			}
			list, _ := e.attr("groups")
			for _, g := range parseGroups(list) {
				own[u.Name].add(g)
				all.add(g)
			}
		}
	}
	for i := range img.Users {
		img.Users[i].Groups = own[img.Users[i].Name].list
	}
	img.Groups = all.list
	return nil
}

// parseGroups reads "group_a,group_b:1234".
func parseGroups(list string) []Group {
	var groups []Group
	for _, item := range splitCommas(list) {
		name, id, hasID := strings.Cut(item, ":")
		g := Group{Name: name, GID: -1}
		if hasID {
			if n, err := strconv.Atoi(id); err == nil {
				g.GID = n
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// groupSet is a list of groups that holds each name once.
type groupSet struct {
	list  []Group
	index map[string]int
}

// add adds a group that is not there yet. An id given later fills in for one
// that was left open.
func (s *groupSet) add(g Group) {
	if i, ok := s.index[g.Name]; ok {
		if s.list[i].GID < 0 {
			s.list[i].GID = g.GID
		}
		return
	}
	if s.index == nil {
		s.index = map[string]int{}
	}
	s.index[g.Name] = len(s.list)
	s.list = append(s.list, g)
}

func (r *resolver) repositories(img *Image) error {
	for _, e := range r.sections("repository") {
		var repo Repository
		if err := decode(e, repositoryRule, &repo); err != nil {
			return err
		}
		if source := e.child("source"); source != nil {
			path, _ := source.attr("path")
			repo.Source = strings.ReplaceAll(strings.TrimSpace(path), "%arch", r.arch)
			repo.SourcePos = source.attrPos("path")
			keys, err := decodeAll[SigningKey](source.elements("signing"), ruleOf(repositoryRule, "source", "signing"))
			if err != nil {
				return err
			}
			repo.SigningKeys = keys
		}
		img.Repositories = append(img.Repositories, repo)
	}
	return nil
}

// packages reads the software of all steps.
func (r *resolver) packages(img *Image) error {
	sets := map[string]*PackageSet{"bootstrap": {}, "image": {}, "delete": {}, "uninstall": {}, "systemfiles": {}}
	var both PackageSet // named after the type: its collections count for both steps, as in KIWI
	for _, section := range r.sections("packages") {
		kind, _ := section.attr("type")
		kind = collapse(kind)
		if kind == img.Type.Image {
			kind = "image"
			if err := r.packageSection(section, &both); err != nil {
				return err
			}
		}
		set := sets[kind]
		if set == nil {
			continue // for another type
		}
		if err := r.packageSection(section, set); err != nil {
			return err
		}
		if kind == "bootstrap" {
			if err := r.bootstrapExtras(section, &img.Packages); err != nil {
				return err
			}
		}
	}
	if boot := sets["bootstrap"]; len(boot.Packages) > 0 {
		boot.Collections = append(boot.Collections, both.Collections...)
		boot.Products = append(boot.Products, both.Products...)
		boot.PatternType = cmp.Or(boot.PatternType, both.PatternType)
	}
	for _, set := range sets {
		finishSet(set)
	}
	img.Packages.Bootstrap, img.Packages.System = *sets["bootstrap"], *sets["image"]
	img.Packages.Delete, img.Packages.Uninstall = sets["delete"].Packages, sets["uninstall"].Packages
	img.Packages.SystemFiles = sets["systemfiles"].Packages
	r.addPackageManager(img)
	return nil
}

// packageSection adds what one <packages> holds to its set.
func (r *resolver) packageSection(section *element, set *PackageSet) error {
	if pattern, ok := section.attr("patternType"); ok && set.PatternType == "" {
		set.PatternType = collapse(pattern)
	}
	lists := map[string]*[]Package{
		"package": &set.Packages, "namedCollection": &set.Collections, "product": &set.Products, "ignore": &set.Ignore,
	}
	for _, e := range section.elements("") {
		if !r.archMatches(e) {
			continue
		}
		if e.name == "file" {
			var f File
			if err := decode(e, ruleOf(packagesRule, "file"), &f); err != nil {
				return err
			}
			f.Target = cmp.Or(f.Target, "/"+f.Name)
			set.Files = append(set.Files, f)
		}
		list := lists[e.name]
		if list == nil {
			continue
		}
		var p Package
		if err := decode(e, ruleOf(packagesRule, e.name), &p); err != nil {
			return err
		}
		*list = append(*list, p)
	}
	archives, err := decodeAll[Archive](section.elements("archive"), ruleOf(packagesRule, "archive"))
	set.Archives = append(set.Archives, archives...)
	return err
}

// bootstrapExtras reads what only a bootstrap section can hold.
func (r *resolver) bootstrapExtras(section *element, into *Packages) error {
	if name, ok := section.attr("bootstrap_package"); ok && into.BootstrapPackage == "" {
		into.BootstrapPackage = name
	}
	for _, e := range section.elements("collectionModule") {
		if !r.archMatches(e) {
			continue
		}
		var m CollectionModule
		if err := decode(e, ruleOf(packagesRule, "collectionModule"), &m); err != nil {
			return err
		}
		into.Modules = append(into.Modules, m)
	}
	return nil
}

// finishSet sorts the lists and leaves each name in them once.
func finishSet(set *PackageSet) {
	if set.PatternType == "" {
		set.PatternType = "onlyRequired"
	}
	set.PlusRecommended = set.PatternType == "plusRecommended"
	for _, list := range []*[]Package{&set.Packages, &set.Collections, &set.Products, &set.Ignore} {
		*list = sortedOnce(*list)
	}
	sort.SliceStable(set.Archives, func(i, j int) bool { return set.Archives[i].Name < set.Archives[j].Name })
}

func sortedOnce(list []Package) []Package {
	sort.SliceStable(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	var once []Package
	for _, p := range list {
		if n := len(once); n == 0 || once[n-1].Name != p.Name {
			once = append(once, p)
		}
	}
	return once
}

// addPackageManager puts the package manager into a bootstrap root whose
// packages it will have to install.
func (r *resolver) addPackageManager(img *Image) {
	if len(img.Packages.Bootstrap.Packages) == 0 || len(img.Packages.System.Packages) == 0 {
		return
	}
	name := map[string]string{"dnf4": "dnf"}[img.PackageManager]
	if name == "" {
		name = img.PackageManager
	}
	p := Package{Origin: Origin{Pos: img.At("packagemanager")}, Name: name}
	img.Packages.Bootstrap.Packages = sortedOnce(append(img.Packages.Bootstrap.Packages, p))
}

// initrdLists reads what initrds of kiwi's own kind need.
func (r *resolver) initrdLists(img *Image) {
	for _, section := range r.sections("drivers") {
		img.Drivers = append(img.Drivers, r.fileNames(section)...)
	}
	for _, section := range r.sections("strip") {
		kind, _ := section.attr("type")
		switch collapse(kind) {
		case "delete":
			img.Strip.Delete = append(img.Strip.Delete, r.fileNames(section)...)
		case "tools":
			img.Strip.Tools = append(img.Strip.Tools, r.fileNames(section)...)
		case "libs":
			img.Strip.Libs = append(img.Strip.Libs, r.fileNames(section)...)
		}
	}
}

func (r *resolver) fileNames(section *element) []string {
	var names []string
	for _, e := range section.elements("file") {
		if r.archMatches(e) {
			name, _ := e.attr("name")
			names = append(names, name)
		}
	}
	return names
}

// innerContainers reads the containers that go into the image.
func (r *resolver) innerContainers(img *Image) error {
	for _, section := range r.sections("containers") {
		var set InnerContainers
		if err := decode(section, containersRule, &set); err != nil {
			return err
		}
		source, _ := section.attr("source")
		for _, e := range section.elements("container") {
			if !r.archMatches(e) {
				continue
			}
			c := InnerContainer{Source: source}
			if err := decode(e, ruleOf(containersRule, "container"), &c); err != nil {
				return err
			}
			set.Containers = append(set.Containers, c)
		}
		img.Type.InnerContainers = append(img.Type.InnerContainers, set)
	}
	return nil
}
