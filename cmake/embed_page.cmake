# cmake "-DFILES=page.html;page.css;…;page.js" -DTITLE=Report -DCONTROLS=Display -DOUTPUT=page_template.cpp
#   -DHEADER=braid/report/page.h -DNAMESPACE=braid::report -DFUNCTION=page_template -P embed_page.cmake
# Fills the first file's {{title}} and {{controls}}, puts the style sheets and scripts that follow it where it says
# {{styles}} and {{scripts}}, and writes the whole as a C++ string.
list(POP_FRONT FILES first)
file(READ "${first}" page)
set(styles "")
set(scripts "")
foreach(path IN LISTS FILES)
  file(READ "${path}" text)
  if(path MATCHES "\\.css$")
    string(APPEND styles "${text}")
  elseif(path MATCHES "\\.js$")
    string(APPEND scripts "${text}")
  else()
    message(FATAL_ERROR "${path}: neither a style sheet nor a script")
  endif()
endforeach()
set(title "${TITLE}")
set(controls "${CONTROLS}")
foreach(part title controls styles scripts)
  string(FIND "${page}" "{{${part}}}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${first}: no {{${part}}} to replace")
  endif()
  string(REPLACE "{{${part}}}" "${${part}}" page "${page}")
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
