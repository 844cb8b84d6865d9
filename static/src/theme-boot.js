// Runs before the first paint: puts the chosen theme on the root element. "system" leaves it to the media query.
(function () {
  try {
    var choice = localStorage.getItem('portcullis.theme');
    if (choice === 'light' || choice === 'dark') document.documentElement.dataset.theme = choice;
  } catch (_) {
    document.documentElement.dataset.theme = '';
  }
})();
