# cmake -DFILES=page.html;… -DOUTPUT=page_template.cpp -DHEADER=braid/report/page.h -DNAMESPACE=braid::report
#   -DFUNCTION=page_template -P embed_page.cmake
# Puts each further file where the first says {{its name}}, and writes the whole as a C++ string.
list(POP_FRONT FILES first)
file(READ "${first}" page)
foreach(path IN LISTS FILES)
  get_filename_component(name "${path}" NAME)
  file(READ "${path}" text)
  string(FIND "${page}" "{{${name}}}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${first}: no {{${name}}} to replace")
  endif()
  string(REPLACE "{{${name}}}" "${text}" page "${page}")
endforeach()
string(FIND "${page}" ")braid_page\"" at)
if(NOT at EQUAL -1)
  message(FATAL_ERROR "${first}: the page holds the end of its own C++ string")
endif()
file(WRITE "${OUTPUT}" "// Made by embed_page.cmake.
#include \"${HEADER}\"

namespace ${NAMESPACE} {

std::string_view ${FUNCTION}() { return R\"braid_page(${page})braid_page\"; }

}  // namespace ${NAMESPACE}
")
