package description

// CheckAll finds everything that is wrong with a description that Load has
// accepted: the errors and warnings of each selection that can be made of it.
// Profiles, Type and Arch of the selection, where given, narrow that down.
// What several selections share is there once.
func (d *Document) CheckAll(sel Selection) (errs, warnings Errors) {
	var all findings
	all.add(&warnings, d.Warnings)
	for _, s := range d.Selections(sel) {
		img, err := d.Resolve(s)
		if found, ok := err.(Errors); ok {
			all.add(&errs, found)
			continue
		}
		if err != nil {
			all.add(&errs, Errors{{Text: err.Error()}})
			continue
		}
		all.add(&warnings, img.Warnings)
	}
	return errs.sorted(), warnings.sorted()
}

// findings remembers what has been reported.
type findings map[string]bool

func (f *findings) add(to *Errors, found Errors) {
	if *f == nil {
		*f = findings{}
	}
	for _, e := range found {
		if key := e.Error(); !(*f)[key] {
			(*f)[key] = true
			*to = append(*to, e)
		}
	}
}

// Selections returns every selection that can be made: the default profiles
// and each profile by itself, with each of their types. Those without any type
// are left out, unless there are no others. Profiles, Type and Arch of sel,
// where given, narrow that down.
func (d *Document) Selections(sel Selection) []Selection {
	choices := [][]string{sel.Profiles}
	if len(sel.Profiles) == 0 {
		for _, name := range d.ProfileNames() {
			choices = append(choices, []string{name})
		}
	}
	var all []Selection
	for _, profiles := range choices {
		s := sel
		s.Profiles = profiles
		types := d.TypeNames(s)
		if sel.Type != "" && contains(types, sel.Type) {
			types = []string{sel.Type}
		} else if sel.Type != "" {
			types = nil
		}
		for _, t := range types {
			s.Type = t
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		all = append(all, sel) // whose error says why
	}
	return all
}

// TypeNames returns the names of the image types of a selection, each once, in the
// order of the description: none if the selection is wrong, for which
// [Document.Resolve] says why.
func (d *Document) TypeNames(sel Selection) []string {
	r := &resolver{doc: d, arch: sel.Arch, active: map[string]bool{}}
	if r.arch == "" {
		r.arch = hostArch()
	}
	r.selectProfiles(sel.Profiles)
	var names []string
	if len(r.errors) > 0 {
		return names
	}
	for _, t := range r.types() {
		image, _ := t.attr("image")
		if image = collapse(image); !contains(names, image) {
			names = append(names, image)
		}
	}
	return names
}
